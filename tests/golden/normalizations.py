"""Normalisations with statistics of groups, and the loss of log-probabilities: docs/operators.md, "Reductions, pools, normalisations"."""
import math

import reals
from formats import add, div, mul, round32, sqrt, sub
from operators import EPSILON, arithmetic, lines, rsqrt, split_rows
from rows import ordered_sum, sum_of_squares
from tensors import tensor


def moments(values):
    """(mean, variance)."""
    n = float(len(values))
    mean = div(ordered_sum(values), n)
    return mean, div(sum_of_squares([sub(v, mean) for v in values]), n)


def normalized(values, mean, variance, epsilon, scale, bias):
    inverse = rsqrt(add(variance, epsilon))
    return [add(mul(mul(sub(v, mean), inverse), scale), bias) for v in values]


def planes(x):
    """The values of each (batch, channel)."""
    return split_rows(x.values(), math.prod(x.shape[2:]))


@arithmetic("BatchNormalization")
def batch_normalization(attributes, x, scale, bias, mean, variance):
    epsilon, momentum = attributes.get("epsilon", EPSILON), attributes.get("momentum", round32(0.9))
    channels, own = x.shape[1], planes(x)
    means, variances, statistics = mean.values(), variance.values(), []
    if attributes.get("training_mode"):
        old, rest = (means, variances), sub(1.0, momentum)
        pairs = [moments([v for plane in own[c::channels] for v in plane]) for c in range(channels)]
        means, variances = (list(part) for part in zip(*pairs))
        statistics = [tensor(mean.type, mean.shape, [add(mul(r, momentum), mul(v, rest)) for r, v in zip(running, new)])
                      for running, new in zip(old, (means, variances))]
    of_channel = list(zip(means, variances, [epsilon] * channels, scale.values(), bias.values()))
    y = [v for i, plane in enumerate(own) for v in normalized(plane, *of_channel[i % channels])]
    return [tensor(x.type, x.shape, y)] + statistics


def group_normalized(attributes, x, scale, bias, groups):
    """Parameters are of channels, or each of a group."""
    epsilon, channels, own = attributes.get("epsilon", EPSILON), x.shape[1], planes(x)
    inner, of_group = channels // groups, channels // len(scale.codes)
    scales, biases, y = scale.values(), bias.values(), []
    for first in range(0, len(own), inner):
        group = own[first:first + inner]
        mean, variance = moments([v for plane in group for v in plane])
        for i, plane in enumerate(group):
            parameter = (first + i) % channels // of_group
            y += normalized(plane, mean, variance, epsilon, scales[parameter], biases[parameter])
    return [tensor(x.type, x.shape, y)]


@arithmetic("InstanceNormalization")
def instance_normalization(attributes, x, scale, bias):
    return group_normalized(attributes, x, scale, bias, x.shape[1])


@arithmetic("GroupNormalization")
def group_normalization(attributes, x, scale, bias):
    return group_normalized(attributes, x, scale, bias, attributes["num_groups"])


@arithmetic("LpNormalization")
def lp_normalization(attributes, x):
    v, y = x.values(), [0.0] * len(x.codes)
    for line in lines(x, [attributes.get("axis", -1)])[1]:
        own = [v[i] for i in line]
        norm = ordered_sum([abs(u) for u in own]) if attributes.get("p", 2) == 1 else sqrt(sum_of_squares(own))
        for i in line:
            y[i] = 0.0 if norm == 0 else div(v[i], norm)
    return [tensor(x.type, x.shape, y)]


@arithmetic("LRN")
def local_response_normalization(attributes, x):
    size, beta, bias = attributes["size"], attributes.get("beta", 0.75), attributes.get("bias", 1.0)
    factor = div(attributes.get("alpha", round32(1e-4)), float(size))
    before, after, channels = (size - 1) // 2, size // 2, x.shape[1]
    own, y = planes(x), []
    for i, plane in enumerate(own):
        c = i % channels
        around = own[i - min(before, c):i + min(after, channels - 1 - c) + 1]
        for v, near in zip(plane, zip(*around)):
            y.append(div(v, reals.power(add(bias, mul(factor, sum_of_squares(near))), beta)))
    return [tensor(x.type, x.shape, y)]


def target_weights(attributes, target, weight):
    """The weight of each target: 0 for ignored ones."""
    of_class = weight.values() if weight else None
    ignored = attributes.get("ignore_index")
    return [0.0 if t == ignored else of_class[t] if weight else 1.0 for t in target.values()]


@arithmetic("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(attributes, x, target, weight=None):
    v, reduction = x.values(), attributes.get("reduction", "mean")
    weights, losses, positions = target_weights(attributes, target, weight), [], math.prod(x.shape[2:])
    for i, (t, w) in enumerate(zip(target.values(), weights)):
        at = (i // positions * x.shape[1] + t) * positions + i % positions
        losses.append(0.0 if t == attributes.get("ignore_index") else -mul(v[at], w))
    if reduction == "none":
        return [tensor(x.type, target.shape, losses)]
    total = ordered_sum(losses)
    return [tensor(x.type, [], [div(total, ordered_sum(weights)) if reduction == "mean" else total])]
