from __future__ import annotations

import pytest

from benchmarks.suites.visual_web_bench.example import CHOICE_TASKS, TASKS
from benchmarks.suites.visual_web_bench.parsing import Parser, extract, option
from benchmarks.suites.visual_web_bench.scoring import score

BOTH: tuple[Parser, Parser] = ("original", "lmms-eval")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        ("h", "H"),  # a single character is put in upper case
        ("q", "Q"),  # ... even beyond the options
        ("7", None),
        ("\u00df", None),  # "SS" in upper case
        ("\u0131", "I"),  # a dotless i becomes an I
        ("", None),
        (" ", None),
        ("C. the third one, not D", "C"),  # a capital and a full stop come first
        ("X.", "X"),
        ("c.", None),  # small letters only count alone
        ("b or c", None),
        ("The answer is (B).", "B"),
        ("(B) or (A)", "A"),  # the last one counts
        ("(B) or (A) or (B)", "B"),
        ("A is wrong, (D) is right, C is not", "D"),  # brackets come before bare letters
        ("A or B", "B"),
        ("B, A", "A"),
        ("Answer: 'E'!", "E"),  # punctuation is dropped
        *((f"the {character}C{character} one", "C") for character in ",.!?;:'\""),
        ("the -C- one", None),
        ("A:B", None),  # "AB" without the colon
        ("A\nB", None),  # only blanks separate
        ("A B", "B"),
        ("A A", "A"),
        ("I think it is a dog", None),  # I is no option
        ("(I) (Z)", None),
        ("(A.)", "A"),  # the full stop goes first
        ("none", None),
        ("...", None),
        ("\u5e97 G \u5e97", "G"),
        ("word " * 50_000 + "F", "F"),
    ],
)
def test_which_letter_is_read(text: str, letter: str | None) -> None:
    assert option(text) == letter


@pytest.mark.parametrize("task", CHOICE_TASKS)
@pytest.mark.parametrize("parser", BOTH)
def test_accuracy_is_that_of_the_letter(task: str, parser: Parser) -> None:
    right = score(task, 2, " C\n", parser)
    assert (right.score, right.parsed, right.metrics) == (1.0, "C", {"accuracy": 1.0})
    wrong = score(task, 2, "D", parser)
    assert (wrong.score, wrong.parsed, wrong.metrics) == (0.0, "D", {"accuracy": 0.0})
    for text in ("", "   ", "...", "cannot tell", "\u5e97", "Z"):
        assert score(task, 0, text, parser).score == 0.0
    assert score(task, 0, "cannot tell", parser).parsed is None
    assert score(task, 1, "(A) or (B)", parser).score == 1.0


@pytest.mark.parametrize(
    ("task", "text", "original", "lmms"),
    [
        # the meta element is read in web_caption only; what stands around it does not matter
        ("web_caption", 'Sure: <meta name="description" content="Red lamps.">', "Red lamps.", None),
        ("web_caption", ' <meta name="description" content=""> ', "", None),
        ("web_caption", '<meta content="Red" name="description">', '<meta content="Red" name="description">', None),
        # the content ends at the last "> of its line, and the first line with one counts
        ("web_caption", '<meta name="description" content="a"> "b">', 'a"> "b', None),
        (
            "web_caption",
            '<meta name="description" content="a">\n<meta name="description" content="b">',
            "a",
            None,
        ),
        ("web_caption", '<meta name="description" content="two\nlines">', None, None),
        ("heading_ocr", '<meta name="description" content="a">', None, None),
        # the text after the first colon, in element_ocr only, without blanks and one kind of quotes after the other
        ("element_ocr", "The text is: Red lamps", "Red lamps", None),
        ("element_ocr", "The text is: \"'Red: lamps'\" ", "Red: lamps", None),
        ("element_ocr", "The text is: '\"Red\"'", '"Red"', None),
        ("element_ocr", "Red lamps", "Red lamps", "Red lamps"),
        ("element_ocr", ":", "", ":"),
        ("webqa", "Answer: 7", None, None),
        ("heading_ocr", "News: rain", None, None),
        # both strip blanks; lmms-eval drops finished reasoning first
        ("webqa", " 7\n", "7", "7"),
        ("webqa", "<think>8: hm</think> 7", None, "7"),
        ("webqa", "8: hm</think> 7", None, "7"),
        ("webqa", "<think>8", None, "<think>8"),
        ("webqa", "</think> 8 <think>", None, "</think> 8 <think>"),
        ("webqa", "a<think>b</think>c<analysis>d</analysis>e", None, "ace"),
        ("webqa", "<think>a<think>b</think>c</think>d", None, "d"),
    ],
)
def test_which_part_of_the_answer_is_scored(task: str, text: str, original: str | None, lmms: str | None) -> None:
    """None: the answer as it is."""
    assert extract(text, task, "original") == (text if original is None else original)
    assert extract(text, task, "lmms-eval") == (text.strip() if lmms is None else lmms)


@pytest.mark.parametrize("parser", BOTH)
@pytest.mark.parametrize("task", ["web_caption", "heading_ocr", "element_ocr"])
def test_texts_are_scored_by_rouge_l(task: str, parser: Parser) -> None:
    # three of four words of each text, two of them in this order, and one of three pairs: "the cat"
    scored = score(task, "the cat ate fish", " fish the cat sat\n", parser)
    assert scored.score == pytest.approx(2 / 4, abs=1e-7)
    assert scored.metrics == pytest.approx({"rouge_1": 3 / 4, "rouge_2": 1 / 3, "rouge_l": 2 / 4}, abs=1e-7)
    assert scored.parsed == "fish the cat sat"
    for text in ("", "  \n", ".", "...", ". .", "?", "\u5e97", "\x00"):
        scored = score(task, "the cat ate", text, parser)
        assert scored.score == 0.0
        assert set(scored.metrics.values()) == {0.0}
    assert score(task, "the cat ate", "", parser).parsed is None


def test_the_modes_differ_where_the_format_is_kept() -> None:
    caption = '<meta name="description" content="Red lamps">'
    assert score("web_caption", "Red lamps", caption, "original").score == pytest.approx(1, abs=1e-7)
    # the words are <meta, name="description", content="Red and lamps">, none of which is right
    assert score("web_caption", "Red lamps", caption, "lmms-eval").score == 0.0
    text = "The text inside the red rectangle is: Red lamps"
    assert score("element_ocr", "Red lamps", text, "original").score == pytest.approx(1, abs=1e-7)
    # 2 of 9 words are right, and both words are found
    assert score("element_ocr", "Red lamps", text, "lmms-eval").score == pytest.approx(2 * (2 / 9) / (11 / 9), abs=1e-7)


@pytest.mark.parametrize("parser", BOTH)
def test_a_single_character_is_no_text_of_an_element(parser: Parser) -> None:
    assert score("element_ocr", "7", "7", parser).score == 0.0
    assert score("heading_ocr", "7", "7", parser).score == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("parser", BOTH)
def test_webqa_takes_the_best_accepted_answer(parser: Parser) -> None:
    scored = score("webqa", ("five", "five red lamps", "5"), "red lamps", parser)
    assert scored.score == pytest.approx(2 * (1 * 2 / 3) / (1 + 2 / 3), abs=1e-7)  # both words, of three
    assert scored.metrics == {"f1": scored.score}
    assert score("webqa", ("5", "five"), "five", parser).score == pytest.approx(1, abs=1e-7)
    empty = score("webqa", ("5", "five"), "", parser)
    assert (empty.score, empty.parsed, empty.metrics) == (0.0, None, {"f1": 0.0})


@pytest.mark.parametrize(("answers", "text"), [(("5",), "..."), (("5", "."), "5"), (("",), "5"), ((), "5")])
def test_webqa_leaves_out_what_rouge_cannot_score(answers: tuple[str, ...], text: str) -> None:
    assert score("webqa", answers, text, "original").metrics == {}
    assert score("webqa", answers, text, "original").score == 0.0
    assert score("webqa", answers, text, "lmms-eval").metrics == {"f1": 0.0}


@pytest.mark.parametrize("parser", BOTH)
@pytest.mark.parametrize("task", TASKS)
def test_no_answer_raises(task: str, parser: Parser) -> None:
    answer = 0 if task in CHOICE_TASKS else ("a. b", "c") if task == "webqa" else "a. b"
    texts = ["\ud800", "\x00" * 9, "(" * 3000, "<think>" * 2000, '<meta name="description" content="' * 500]
    for text in [*texts, "word " * 3000, "</think>" * 2000, "a." * 3000, ":" * 3000]:
        assert 0.0 <= score(task, answer, text, parser).score <= 1.0
