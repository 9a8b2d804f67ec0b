"""The official readers see in our files what the bytes say, and the tokenizer's tokens are the text's."""
import json
import re
import struct
import sys

from safetensors.numpy import load_file
from tokenizers import Tokenizer


def basic_english(text):
    """torchtext's, as it is documented."""
    text = text.lower()
    for mark, replacement in [
        (r"'", " '  "), (r'"', ""), (r"\.", " . "), (r"<br />", " "), (r",", " , "), (r"\(", " ( "), (r"\)", " ) "),
        (r"!", " ! "), (r"\?", " ? "), (r";", " "), (r":", " "),
    ]:
        text = re.sub(mark, replacement, text)
    return text.split()


text = open(sys.argv[1], encoding="utf-8", newline="").read()
folder, kind = sys.argv[2:4]

tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
expected = {
    "characters": lambda: list(text), "bytes": lambda: list(text.encode()), "words": lambda: basic_english(text),
    "symbols": text.split,
}[kind]()
vocabulary = list(range(256)) if kind == "bytes" else sorted(set(expected))
index = {token: number for number, token in enumerate(vocabulary)}
tokens = tokenizer.encode(text).ids
assert tokenizer.get_vocab_size() == len(vocabulary)
assert tokens == [index[token] for token in expected]
assert tokenizer.decode(tokens) == (" ".join(expected) if kind in ["words", "symbols"] else text)
tokenizer.save(f"{folder}/tokenizer.json")  # and ours reads theirs
print(f"tokenizer.json: {len(vocabulary)} {kind}, {len(tokens)} tokens agree")

for name in ["model", "optimizer"]:
    path = f"{folder}/{name}.safetensors"
    tensors = load_file(path)
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert data[8:9] == b"{" and length % 8 == 0
    assert set(tensors) == set(header) - {"__metadata__"}
    for key, tensor in tensors.items():
        begin, end = (8 + length + offset for offset in header[key]["data_offsets"])
        assert tensor.dtype == "float32" and list(tensor.shape) == header[key]["shape"]
        assert tensor.tobytes() == data[begin:end], key
    print(f"{name}.safetensors: {len(tensors)} tensors agree")
