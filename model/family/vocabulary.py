"""Gemma's reserved token ids and the chat template's roles, as the family keeps them."""

from typing import Final

PAD, EOS, BOS, UNK, MASK = range(5)
START_OF_TURN, END_OF_TURN = 106, 107
FIRST_BYTE: Final = 108
CONTROL: Final = {
    PAD: "<pad>",
    EOS: "<eos>",
    BOS: "<bos>",
    UNK: "<unk>",
    MASK: "<mask>",
    START_OF_TURN: "<start_of_turn>",
    END_OF_TURN: "<end_of_turn>",
}
ROLES: Final = ("user", "model")
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
