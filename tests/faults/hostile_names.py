"""Names that came from somewhere, and how each is shown: one line in which everything is visible."""

#: a name → how it is shown
NAMES = {
    "dense/kernel": "dense/kernel",
    "x[left]": "x[left]",
    "[red]x[/red]": "[red]x[/red]",
    ":cat:": ":cat:",
    "größe/κ": "größe/κ",
    "::error::x": "\\x3a:error::x",
    " ##[error]x": " \\x23#[error]x",
    "a\n::error title=x::y": "a\\n::error title=x::y",
    "a\r::warning::y": "a\\r::warning::y",
    "\x1b[2J\x1b]0;x\x07": "\\x1b[2J\\x1b]0;x\\x07",
    "a\x00b": "a\\x00b",
    "\u202eevil\u2066": "\\u202eevil\\u2066",
    "a\u2028b\u0085c": "a\\u2028b\\x85c",
    "\ud800": "\\ud800",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "](javascript:x)![i](//x/y) @all |`": "](javascript:x)![i](//x/y) @all |`",
    "a" * 300 + "::error::x": "a" * 300 + "::error::x",
    "```": "```",
    "```text": "```text",
    "$x$ https://x www.y.z": "$x$ https://x www.y.z",
    "<img src=x onerror=alert(1)>%{x}": "<img src=x onerror=alert(1)>%{x}",
}


def has_only_visible_characters(text):
    return all(line.isprintable() for line in text.split("\n"))
