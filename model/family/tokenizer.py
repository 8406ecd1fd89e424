"""Builds the family's tokenizer: byte-fallback BPE whose merges form a trie from the left.

Multi-character pieces exist only for words of the task phrasings. Each starts with `▁` or a capital letter and grows
one character at a time, so no two merges compete and neither merge order nor the library can change an encoding.
Words inside quotes start with neither and fall into single letters: the tasks that spell and count see them.
`user` and `model` are whole-word exceptions, as user-defined symbols, because the chat template writes one every turn.
"""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Final

from sentencepiece import sentencepiece_model_pb2 as sentencepiece_pb
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

from model.family.tasks.chitchat import SYSTEM_TEXTS, TALK
from model.family.tasks.generator import training_chats
from model.family.vocabulary import BOS, CONTROL, EOS, FIRST_BYTE, PAD, ROLES, UNK

CHARACTERS: Final = ("▁", "\n", *map(chr, range(33, 127)), "×", "÷", "°", "é", "–", "’", "“", "”", "€", "£")
VOCABULARY_MULTIPLE: Final = 64
WORD: Final = re.compile(r"▁[A-Za-z]+|(?<![A-Za-z▁])[A-Z][a-z]+")
SYMBOL_PIECES: Final = ("▁+", "▁-", "▁=", "▁×", '▁"', "▁{")
CHATS_READ: Final = 60_000  # enough that every phrasing and name of the tasks has appeared

CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% if messages and messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] != ('user' if loop.index0 is even else 'assistant') %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n'"
    " + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def _words() -> list[str]:
    texts = [text for questions, answer in TALK for text in (*questions, answer)] + list(SYSTEM_TEXTS)
    texts += [turn["content"] for chat in islice(training_chats(0), CHATS_READ) for turn in chat]
    found = {word for text in texts for word in WORD.findall(text.replace(" ", "▁"))}
    return sorted(found)


def pieces() -> list[str]:
    """The vocabulary in id order, padded with unused fillers."""
    prefixes = {word[:end] for word in _words() for end in range(2, len(word) + 1)} | set(SYMBOL_PIECES)
    # `▁X` before `Xy`: a capital that follows a space must join the space before it joins the letters behind it.
    ordered = sorted(prefixes, key=lambda piece: (len(piece) > 2 or piece[0] != "▁", len(piece), piece))
    head = [CONTROL.get(index, f"<unused{index}>") for index in range(FIRST_BYTE)]
    listed = [*head, *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS, *ROLES, *ordered]
    missing = -len(listed) % VOCABULARY_MULTIPLE
    return listed + [f"<unused{FIRST_BYTE + index}>" for index in range(missing)]


def _is_word(piece: str) -> bool:
    return len(piece) > 1 and not piece.startswith("<") and piece not in ROLES


def build_tokenizer(vocabulary: list[str]) -> Tokenizer:
    """The `tokenizers` object; <bos> is added in front of every encoding with special tokens."""
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    merges = [(piece[:-1], piece[-1]) for piece in vocabulary if _is_word(piece)]
    tokenizer = Tokenizer(BPE(vocab=ids, merges=merges, unk_token=CONTROL[UNK], fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", BOS)]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL.values()])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ROLES])
    return tokenizer


def build_sentencepiece(vocabulary: list[str]) -> bytes:
    """The same vocabulary as a serialized sentencepiece ModelProto, for tools that read `tokenizer.model`."""
    proto = sentencepiece_pb.ModelProto()
    kinds = sentencepiece_pb.ModelProto.SentencePiece
    for index, text in enumerate(vocabulary):
        kind = kinds.NORMAL
        if index in CONTROL:
            kind = kinds.UNKNOWN if index == UNK else kinds.CONTROL
        elif text.startswith("<unused"):
            kind = kinds.UNUSED
        elif re.fullmatch(r"<0x[0-9A-F]{2}>", text):
            kind = kinds.BYTE
        elif text in ROLES:
            kind = kinds.USER_DEFINED
        # A merge's rank is its id; other scores are never compared.
        proto.pieces.add(piece=text, score=-float(index) if _is_word(text) else 0.0, type=kind)
    spec = proto.trainer_spec
    spec.model_type, spec.vocab_size = sentencepiece_pb.TrainerSpec.BPE, len(vocabulary)
    spec.byte_fallback, spec.split_digits = True, True
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = UNK, BOS, EOS, PAD
    spec.unk_piece, spec.bos_piece, spec.eos_piece, spec.pad_piece = "<unk>", "<bos>", "<eos>", "<pad>"
    spec.user_defined_symbols.extend(ROLES)
    normal = proto.normalizer_spec
    normal.name, normal.add_dummy_prefix, normal.remove_extra_whitespaces = "identity", False, False
    normal.escape_whitespaces = True
    return bytes(proto.SerializeToString())


def save_tokenizer(folder: Path) -> None:
    """Writes tokenizer.json, tokenizer.model, their configuration and the chat template into the folder."""
    vocabulary = pieces()
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer.model").write_bytes(build_sentencepiece(vocabulary))
    names = {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    config = {
        "tokenizer_class": "GemmaTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        **names,
        "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
        "model_max_length": 8192,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "sp_model_kwargs": {},
        "chat_template": CHAT_TEMPLATE,
        # transformers 5 rebuilds a Gemma tokenizer from vocabulary and merges: the roles survive only if listed here.
        "added_tokens_decoder": {
            str(vocabulary.index(text)): {
                "content": text,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": text not in ROLES,
            }
            for text in (*CONTROL.values(), *ROLES)
        },
    }
    special = {**names, "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]}
    for name, value in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
