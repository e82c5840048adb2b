#!/usr/bin/env python3
"""Writes test vectors for repops/models/tokenizer.h with Hugging Face's `tokenizers` as the oracle.

It trains small tokenizers of every supported kind on the text files given, keeps each as
OUT/NAME.json (training breaks ties by chance, so one that is there is used again), and writes
all the cases, one JSON object a line, as OUT/vectors.jsonl:
  {"t": NAME, "s": special tokens added, "x": text in hex, "i": ids, "d": decoded text in hex}
  {"t": NAME, "i": random ids, "d": decoded text in hex}
The vectors in the tree, and a long comparison with real models (the tests read the second folder
when VERBATIM_TOKENIZER_VECTORS names it):
  pip install tokenizers==0.23.3
  tests/oracle/tokenizer_oracle.py tests/data/tokenizer --cases 25 /usr/share/common-licenses/*
  tests/oracle/tokenizer_oracle.py /tmp/vectors --cases 20000 --seed 2 --vocabulary 3000 \\
      --code-points       --model minilm=FOLDER --model stories=FOLDER /usr/share/common-licenses/*
"""
import argparse
import functools
import json
import pathlib
import random
import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace('{1,3}', '')
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPACE = '\u2581'

# Text in some scripts, to train on and to draw from.
SCRIPTS = '''
Ungefähr größere Straße, naïve café, Čeština žluťoučký kůň, İstanbul ışık, Ελληνικά ΣΊΣΥΦΟΣ σοφός,
Русский текст ёлка ЙОД, 日本語の文章、漢字かな交じり, 中文分词测试。한국어 문장입니다 각 힣, עברית שָׁלוֹם,
العربية مَرْحَبًا, हिन्दी नमस्ते क्षत्रिय, ไทยสวัสดี, Tiếng Việt nước, ﬁne ﬂow ſtrange ꜱmall, Ａｂｃ１２３,
٣٤٥ ४५६ ⅷ ½ ² Ⅳ 〇 一二三, ⒶⓑⅫ, don't DON'T we'll WE'LL I'm they've you'd it's IT'S 'ſ 're 'Re o'clock
'''
PIECES = [
    lambda r: r.choice(SCRIPTS.split()),
    lambda r: ''.join(r.choice(SCRIPTS) for _ in range(r.randint(1, 8))),
    lambda r: r.choice(WORDS),
    lambda r: ' ' + r.choice(WORDS),
    lambda r: ''.join(r.choice('abcdefgh') for _ in range(r.choice([1, 3, 9, 99, 100, 101, 200]))),
    lambda r: ''.join(r.choice('0123456789') for _ in range(r.randint(1, 12))),
    lambda r: ''.join(r.choice(' \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u202f\u3000')
                      for _ in range(r.randint(1, 6))),
    lambda r: ' ' * r.randint(1, 9),
    lambda r: ''.join(r.choice('!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~') for _ in range(r.randint(1, 5))),
    lambda r: r.choice('eaouAOnك\u0915\u1100') + ''.join(
        r.choice('\u0301\u0308\u0323\u0327\u0331\u0345\u0334\u05b0\u064b\u093c\u0f71\u3099\u1161'
                 '\u11a8\u0d3e\u1dc4\u20d0') for _ in range(r.randint(1, 7))),
    lambda r: r.choice(['👩\u200d👩\u200d👧', '🏳\ufe0f\u200d🌈', '👍🏽', '🇩🇪', '☃', '\ufeff', '\u200b', '\xad', '\ufffd']),
    lambda r: chr(r.choice([*range(0, 0x30), 0x7f, *range(0x80, 0xa0), 0xad, 0x600, 0x61c, 0xe000])),
    lambda r: chr(r.randint(0xac00, 0xd7a3)) + chr(r.randint(0x1100, 0x11ff)),
    lambda r: chr(r.choice([r.randint(0, 0x2fff), r.randint(0x3000, 0xd7ff), r.randint(0xe000, 0xffff),
                            r.randint(0x10000, 0x323af), r.randint(0, 0x10ffff)]) or 1),
    lambda r: r.choice([SPACE, SPACE * 3, 'Ġ', '##', '<0x41>', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '<s>',
                        '</s>', '<unk>', '<|end|>', '<l>', '<r>', '<w>', '<lr>', 'Named', 'NAMED', '<s']),
    lambda r: r.choice([' <l>', '<r> \n', 'a<w>', '<w>', ' <w>.', '\u3000<lr>\u3000', '<lr> <lr>', '<l>\t<r>']),
    lambda r: bytes(r.choice([r.randint(0x80, 0xff), 0xed, 0xf4, 0xe0, 0xc0, 0xf0, 0x80, 0x9f])
                    for _ in range(r.randint(1, 4))),
]
WORDS = []


def random_text(r):
    out = b''
    for _ in range(r.choice([0, 1, 2, 3, 5, 10, 30])):
        piece = r.choice(PIECES)(r)
        if isinstance(piece, bytes):
            out += piece
        else:
            out += piece.encode('utf-8', 'surrogatepass')
        if r.random() < 0.3:
            out += b' '
    return out


def code_point_texts():
    """Every code point that could be assigned, by letters, digits, spaces, marks and quotes."""
    for first in [*range(0, 0x34000, 128), *range(0xe0000, 0xe0200, 128), 0xf0000, 0x10ff80]:
        chars = [chr(c) for c in range(first, first + 128) if not 0xd800 <= c < 0xe000]
        yield ' '.join(f"a{c}b 1{c}2 {c}\u0301 {c}'{c}<w>" for c in chars).encode()


def add_tokens(tokenizer, end='<|end|>'):
    tokenizer.add_special_tokens([end])
    tokenizer.add_tokens([
        AddedToken('<l>', lstrip=True, normalized=False), AddedToken('<r>', rstrip=True, normalized=False),
        AddedToken('<lr>', lstrip=True, rstrip=True, special=True, normalized=False),
        AddedToken('<w>', single_word=True, normalized=False), AddedToken('Named', normalized=True)])


def byte_level(corpus, size, pre_tokenizer, normalizer=None, ignore_merges=False, template=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    add_tokens(tokenizer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if template:
        token = tokenizer.token_to_id('<|end|>')
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing('<|end|> $A', '<|end|> $A <|end|>:1 $B:1', [('<|end|>', token)])])
    return tokenizer


def sentence_piece(corpus, size, normalizer, pre_tokenizer, decoder, fallback, fuse):
    tokenizer = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=fuse, byte_fallback=fallback))
    tokenizer.normalizer = normalizers.Sequence(normalizer)
    # Words are found by Metaspace while training even where the tokenizer has no pre-tokenizer.
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.Metaspace(prepend_scheme='never')
    special = ['<unk>', '<s>', '</s>'] + ([f'<0x{b:02X}>' for b in range(256)] if fallback else [])
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, limit_alphabet=100, special_tokens=special))
    state = json.loads(tokenizer.to_str())
    state['added_tokens'] = state['added_tokens'][:3]  # the bytes are ordinary tokens
    if pre_tokenizer is None:
        state['pre_tokenizer'] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    add_tokens(tokenizer)
    tokenizer.decoder = decoder
    tokenizer.post_processor = processors.RobertaProcessing(('</s>', 2), ('<s>', 1))
    return tokenizer


def word_piece(corpus, size, longest, cleanup, **settings):
    tokenizer = Tokenizer(models.WordPiece(unk_token='[UNK]', max_input_chars_per_word=longest))
    tokenizer.normalizer = normalizers.BertNormalizer(**settings)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(corpus, trainers.WordPieceTrainer(
        vocab_size=size, show_progress=False, limit_alphabet=200,
        special_tokens=['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']))
    add_tokens(tokenizer)
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    tokenizer.post_processor = processors.BertProcessing(('[SEP]', 3), ('[CLS]', 2))
    return tokenizer


def all_tokenizers(corpus, size):
    split, level, sequence = pre_tokenizers.Split, pre_tokenizers.ByteLevel, pre_tokenizers.Sequence
    bare = level(add_prefix_space=False, use_regex=False)
    llama_decoder = decoders.Sequence([decoders.Replace(SPACE, ' '), decoders.ByteFallback(),
                                       decoders.Fuse(), decoders.Strip(' ', 1, 0)])
    yield 'gpt2', lambda: byte_level(corpus, size, level(add_prefix_space=False))
    yield 'gpt2_prefix', lambda: byte_level(corpus, size, level(add_prefix_space=True))
    yield 'llama3', lambda: byte_level(
        corpus, size, sequence([split(Regex(LLAMA3), 'isolated'), bare]), ignore_merges=True, template=True)
    yield 'qwen2', lambda: byte_level(
        corpus, size, sequence([split(Regex(QWEN2), 'removed', invert=True), bare]), normalizers.NFC())
    yield 'digits', lambda: byte_level(corpus, size, sequence([
        pre_tokenizers.Digits(individual_digits=True), split(Regex(GPT2), 'isolated'),
        pre_tokenizers.Digits(individual_digits=False), bare]), normalizers.Sequence(
            [normalizers.NFD(), normalizers.Strip(), normalizers.Lowercase()]))
    yield 'llama2', lambda: sentence_piece(
        corpus, size, [normalizers.Prepend(SPACE), normalizers.Replace(' ', SPACE)], None, llama_decoder,
        True, True)
    for scheme, fallback, fuse in (('first', True, False), ('always', False, True), ('never', False, False)):
        space = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=scheme != 'never')
        yield 'metaspace_' + scheme, functools.partial(
            sentence_piece, corpus, size, [normalizers.Strip(left=True, right=False)], space,
            decoders.Metaspace(prepend_scheme=scheme), fallback, fuse)
    yield 'uncased', lambda: word_piece(corpus, size, 100, True)
    yield 'cased', lambda: word_piece(corpus, size, 20, False, lowercase=False, handle_chinese_chars=False)
    yield 'accents', lambda: word_piece(corpus, size, 100, True, strip_accents=False, clean_text=False)


def load_or_train(folder, name, make):
    path = folder / f'{name}.json'
    return Tokenizer.from_file(str(path)) if path.exists() else make()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('out', type=pathlib.Path)
    parser.add_argument('corpus', nargs='+', type=pathlib.Path)
    parser.add_argument('--cases', type=int, default=25, help='for each tokenizer')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--vocabulary', type=int, default=420)
    parser.add_argument('--code-points', action='store_true', help='cases of all code points, too')
    parser.add_argument('--model', action='append', default=[], metavar='NAME=FOLDER')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    corpus = [path.read_text(errors='replace') for path in sorted(args.corpus)] + [SCRIPTS] * 20
    WORDS.extend(sorted(set(re.findall(r'\w+', ' '.join(corpus)))))
    tokenizers = [(name, load_or_train(args.out, name, make))
                  for name, make in all_tokenizers(corpus, args.vocabulary)]
    for model in args.model:
        name, folder = model.split('=', 1)
        tokenizers.append((name, Tokenizer.from_file(str(pathlib.Path(folder) / 'tokenizer.json'))))
    r = random.Random(args.seed)
    with open(args.out / 'vectors.jsonl', 'w') as lines:
        for name, tokenizer in tokenizers:
            state = json.loads(tokenizer.to_str())
            (args.out / f'{name}.json').write_text(
                json.dumps(state, ensure_ascii=False, separators=(',', ':')) + '\n')
            tokenizer.no_truncation()
            tokenizer.no_padding()
            known = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
            def write(ids, line):
                decoded = tokenizer.decode(ids).encode().hex()
                lines.write(json.dumps({'t': name, **line, 'i': ids, 'd': decoded},
                                       separators=(',', ':')) + '\n')

            def write_text(data, special):
                text = data.decode('utf-8', 'replace')
                ids = tokenizer.encode(text, add_special_tokens=special).ids
                write(ids, {'s': special, 'x': data.hex()})

            for case in range(args.cases):
                if case % 5 == 4:
                    write([r.choice(known) for _ in range(r.randint(0, 12))], {})
                else:
                    write_text(random_text(r), r.random() < 0.5)
            for data in code_point_texts() if args.code_points else ():
                write_text(data, False)


if __name__ == '__main__':
    main()
