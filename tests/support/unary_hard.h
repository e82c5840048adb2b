// Operands of each elementary function whose results lie within a relative 2^-45 to 2^-66 of a
// rounding boundary, found by sweeping all operands. In the order of the enumeration Unary.
#pragma once

#include <cstdint>

#include <verbatim/repops/unary.h>

namespace verbatim::test {

inline constexpr uint32_t kHardOperands[kUnaryCount][3] = {
    {0x40315B33, 0x39C6BE5B, 0x4288942B},  // exp
    {0xB466D4CB, 0x33B8AA3B, 0x37E338EB},  // exp2
    {0x33B504F3, 0x36322B1B, 0x40315B33},  // expm1
    {0x65D890D3, 0x4C5D65A5, 0x4D604EBE},  // log
    {0x3EA07AB9, 0x7F114A90, 0x413F64F8},  // log2
    {0x62A6C1DD, 0x610567E4, 0x45BDEDC8},  // log10
    {0x35400003, 0xB53FFFFD, 0x65D890D3},  // log1p
    {0x67A9242B, 0x4371ADE3, 0x79D1F6D3},  // sin
    {0x6115CB11, 0x5F18B878, 0x59443C0A},  // cos
    {0x5FFD33A4, 0x5D5873AE, 0x7714B423},  // tan
    {0x3F083A1A, 0x3DE5FA1E, 0x3D07959C},  // asin
    {0x3C8A2F9B, 0x3B7D281B, 0xB51BBBD3},  // acos
    {0x3D8D6B23, 0x3A27BA3B, 0x3AAC434B},  // atan
    {0x3A1285FF, 0x3B36AA1F, 0x3F7DF258},  // sinh
    {0x3A6F7750, 0x3D609528, 0x3A87C3B6},  // cosh
    {0x3AC37DE2, 0x3EEE0566, 0x40ACB4D0},  // tanh
    {0x655890D3, 0x4CE04EBE, 0x7967EC37},  // asinh
    {0x655890D3, 0x662BBD63, 0x41B5B653},  // acosh
    {0x3A71E7A1, 0x39B89BA2, 0x3AD637EB},  // atanh
    {0x37EE85C4, 0x35D2FADC, 0x33AA320C},  // erf
    {0xC164DDCB, 0xBD567BBB, 0xBBAE719B},  // sigmoid
    {0xBE6064B3, 0x3926CF53, 0x3C450A9B},  // softplus
    {0x400353B5, 0x40526132, 0x4021B8E7},  // cbrt
};

}  // namespace verbatim::test
