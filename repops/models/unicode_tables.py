#!/usr/bin/env python3
"""Writes unicode_tables.cc, the Unicode data that the tokenizers work by.

What a tokenizer.json means is fixed by one implementation, the `tokenizers` package, and that
implementation mixes versions of Unicode. Of 0.23.3: the regex classes L and N are exactly those of
Unicode 16.0; its BERT classes and combining classes lack characters that 14.0 has; its
decompositions lack U+11938 (13.0); its lower case has pairs that 14.0 lacks. A table of any single
version would give other ids for some text, so this script asks the package itself, code point by
code point; only the numbers of the combining classes, which it does not show, come from Python's
unicodedata, kept where the package reorders by them.

  python3 -m venv v && v/bin/pip install tokenizers==0.23.3
  v/bin/python repops/models/unicode_tables.py > repops/models/unicode_tables.cc
"""
import hashlib
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
# Hangul syllables decompose by arithmetic (The Unicode Standard, section 3.12), not by table.
HANGUL = range(0xAC00, 0xAC00 + 11172)


def ranges(predicate):
    out = []
    for c in CODE_POINTS:
        if not predicate(chr(c)):
            continue
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def regex_class(pattern):
    split = pre_tokenizers.Split(Regex(pattern), 'removed')
    return lambda ch: not split.pre_tokenize_str(ch)


def word_class():
    """\\w as AddedToken.single_word sees it."""
    tokenizer = Tokenizer(models.WordLevel({'[UNK]': 0}, unk_token='[UNK]'))
    tokenizer.add_tokens([AddedToken('<t>', single_word=True, normalized=False)])
    wanted = tokenizer.token_to_id('<t>')
    return lambda ch: wanted not in tokenizer.encode(ch + '<t>', add_special_tokens=False).ids


def bert(**on):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    normalizer = normalizers.BertNormalizer(**{**off, **on})
    return lambda ch: normalizer.normalize_str('a' + ch + 'b')[1:-1]


def combining_classes():
    nfd = normalizers.NFD()
    out = []
    for c in CODE_POINTS:
        ch, ccc = chr(c), unicodedata.combining(chr(c))
        if not ccc:
            continue
        # U+0334 has class 1, U+0345 class 240, the highest: a known class moves one of these two.
        swapped = ch + '\u0334' if ccc > 1 else '\u0345' + ch
        if nfd.normalize_str(swapped) == swapped:
            continue
        if out and out[-1][1] == c - 1 and out[-1][2] == ccc:
            out[-1][1] = c
        else:
            out.append([c, c, ccc])
    return out


def decompositions():
    nfd, nfc = normalizers.NFD(), normalizers.NFC()
    full, pairs = [], []
    for c in CODE_POINTS:
        ch = chr(c)
        text = nfd.normalize_str(ch)
        if text == ch or c in HANGUL:
            continue
        full.append((c, [ord(x) for x in text]))
        if len(text) > 1 and nfc.normalize_str(text) == ch:
            head = nfc.normalize_str(text[:-1])
            assert len(head) == 1, hex(c)
            pairs.append((ord(head), ord(text[-1]), c))
    return full, sorted(pairs)


def lower_cases():
    lower = normalizers.Lowercase()
    return [(c, [ord(x) for x in lower.normalize_str(chr(c))]) for c in CODE_POINTS
            if lower.normalize_str(chr(c)) != chr(c)]


def rows(items, per_line):
    text = ['{' + ','.join(x if isinstance(x, str) else f'0x{x:X}' for x in item) + '}'
            for item in items]
    return '\n'.join(','.join(text[i:i + per_line]) + ','
                     for i in range(0, len(text), per_line))


def mapping(items):
    """(from, text) entries as {from, offset, length} into one pool of code points."""
    pool, entries = [], []
    for c, text in items:
        entries.append((c, str(len(pool)), str(len(text))))
        pool += text
    return entries, pool


def table(kind, name, items, per_line):
    return f'const {kind} {name}_data[] = {{\n{rows(items, per_line)}\n}};\n' \
           f'const std::span<const {kind}> {name}(k_span({name}_data));\n'


def main():
    clean, marks = bert(clean_text=True), bert(strip_accents=True)
    bert_split = pre_tokenizers.BertPreTokenizer()
    classes = {
        'kLetter': regex_class(r'\p{L}'),
        'kNumber': regex_class(r'\p{N}'),
        'kWhiteSpace': regex_class(r'\s'),
        'kWord': word_class(),
        'kBertRemoved': lambda ch: clean(ch) == '',
        'kBertMark': lambda ch: marks(ch) == '',
        'kBertPunctuation': lambda ch: len(bert_split.pre_tokenize_str('a' + ch + 'b')) == 3,
    }
    body = ''
    for name, predicate in classes.items():
        body += table('CodeRange', name, ranges(predicate), 6)
    body += table('CombiningRange', 'kCombiningClass', combining_classes(), 5)
    full, pairs = decompositions()
    for name, items in (('kDecomposition', full), ('kLowerCase', lower_cases())):
        entries, pool = mapping(items)
        body += table('CodeMapping', name, entries, 6)
        chars = [f'0x{c:X}' for c in pool]
        lines = ',\n'.join(','.join(chars[i:i + 12]) for i in range(0, len(chars), 12))
        body += f'const char32_t {name}Text_data[] = {{\n{lines}}};\n' \
                f'const std::span<const char32_t> {name}Text(k_span({name}Text_data));\n'
    body += table('Composition', 'kComposition', pairs, 5)
    digest = hashlib.sha256(body.encode()).hexdigest()
    print(f'''\
// Generated by unicode_tables.py: Unicode data as tokenizers {tokenizers.__version__} applies it
// (combining classes: Unicode {unicodedata.unidata_version}). Do not edit.
#include <verbatim/repops/models/unicode_tables.h>

// clang-format off
namespace verbatim::unicode {{
namespace {{
template <class T, std::size_t N>
constexpr std::span<const T> k_span(const T (&data)[N]) {{ return std::span<const T>(data, N); }}
}}  // namespace
const char kTablesDigest[] = "{digest}";
{body}}}  // namespace verbatim::unicode''')


if __name__ == '__main__':
    sys.exit(main())
