"""The choice verifier: letters in every dress, and options given as text."""

import json

import pytest

from eager_lmeval.errors import UsageError
from eager_lmeval.verify import Graded, get_verifier

CAPITALS = json.dumps({"answer": "B", "options": ["Berlin", "Paris", "A city in Spain", "1/2"]})


def chosen(text: str, label: str = "B") -> str | None:
    return get_verifier("choice").grade([text], label)[0].answer


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{B}",
        "\\boxed{\\text{B}}",
        "\\boxed{(B)}",
        "\\boxed{\\textbf{(B) } 12}",
        "\\boxed{b}",
        "\\boxed{B.}",
        "\\boxed{\\mathrm{B}}",
        "\\boxed{B: Paris}",
        "\\boxed{\\text{Option B}}",
        "$\\boxed{B}$",
        "\\boxed A or \\boxed{B}",
        "(B)",
        "B.",
        "B",
        "B)",
        "**B**",
        "b",
        "B) because it is so",
        "\\text{B}",
        "The answer is B.",
        "The answer is (B).",
        "The answer is **B**.",
        "Answer: B",
        "**Answer:** B) Paris",
        "The answer is A. No, the answer is B.",
        "The correct answer is option B",
        "the answer is $\\text{B}$",
        "A is wrong because I say so, and C too.\nSo it has to be (B)",
        "After a long thought, I choose option B.",
        "Reasoning about (A) and (C).\n\n**B**",
    ],
)
def test_b_is_read_in_every_dress(text: str) -> None:
    assert chosen(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I do not know.",
        "\\boxed{}",
        "\\boxed{42}",
        "The answer is unclear to me",
        "A cat sat on the mat.",
        "\\boxed{Z}",
    ],
)
def test_what_names_no_option_does_not_vote(text: str) -> None:
    graded = get_verifier("choice").grade([text], "B")[0]
    assert graded == Graded(False, None, None)


def test_the_article_a_is_not_option_a() -> None:
    assert chosen("The answer is a matter of taste.") is None
    assert chosen("The answer is A.") == "A"
    assert chosen("The answer is I think B") is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A. neon\nB. nitrogen\nC. argon\nD. xenon", None),
        ("(A) neon (B) nitrogen (C) argon (D) xenon", None),
        ("(A) neon\n(B) nitrogen\n(C) argon\n(D) xenon", None),
        ("Answer: A. neon\nB. nitrogen\nC. argon", None),
        ("\\boxed{A. neon\\\\ B. nitrogen}", None),
        ("A. neon\nB. nitrogen\nC. argon\nD. xenon\nAnswer: B", "B"),
        ("A. neon\nB. nitrogen\nC. argon\nD. xenon\n\nB", "B"),
        ("A. neon\nB. nitrogen\n\nThe correct option is B", "B"),
        ("B. nitrogen\n\nExplanation: A. is too heavy.", "B"),
        ("The answer is A or B.", None),
        ("The answer is A and C.", None),
        ("\\boxed{A, B}", None),
        ("The answer is (A)(B).", None),
        ("Option A and option B are both correct.", None),
        ("The answer is B, because A is wrong", "B"),
        ("Option B is correct", "B"),
        ("B is correct.", "B"),
        ("(B) is the right choice", "B"),
        ("B is the correct answer.", "B"),
        ("Hence option (B) is the most likely.", "B"),
        ("Option B (nitrogen) is correct.", "B"),
        ("I choose B.", "B"),
        ("I would go with B", "B"),
        ("I choose A because it is so", "A"),
        ("I pick A cat", None),
        ("The best choice is B", "B"),
        ("Correct option: B", "B"),
        ("Therefore B.", "B"),
        ("It must be B", "B"),
        ("Option B is incorrect.", None),
        ("Option B is not correct.", None),
        ("Option A is wrong, option B is correct", "B"),
        ("(A) is wrong and (B) is right", "B"),
        ("Not (B) but (A)", "A"),
        ("If option B is correct then so be it", None),
        ("After eliminating (A), the answer must be (B)", "B"),
    ],
)
def test_a_list_of_options_chooses_none_and_a_verdict_chooses_one(text: str, letter: str | None) -> None:
    assert chosen(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("\\boxed{Paris}", "B"),
        ("\\boxed{\\text{paris}}", "B"),
        ("The answer is Paris.", "B"),
        ("The answer is **Berlin**", "A"),
        ("\\boxed{0.5}", "D"),
        ("\\boxed{\\frac12}", "D"),
        ("\\boxed{a city in Spain}", "C"),
        ("Paris", "B"),
        ("\\boxed{Rome}", None),
        ("\\boxed{E}", None),
        ("\\boxed{C}", "C"),
    ],
)
def test_the_text_of_an_option_counts_as_its_letter(text: str, letter: str | None) -> None:
    assert chosen(text, CAPITALS) == letter


def test_a_text_that_two_options_have_names_neither() -> None:
    twice = json.dumps({"answer": "B", "options": ["neon", "argon", "neon"]})
    assert chosen("The answer is neon.", twice) is None
    assert chosen("The answer is argon.", twice) == "B"


def test_options_may_be_keyed_by_letter_and_answered_by_text() -> None:
    label = json.dumps({"answer": "Paris", "options": {"A": "Berlin", "B": "Paris"}})
    assert [graded.correct for graded in get_verifier("choice").grade(["B", "\\boxed{Paris}", "A"], label)] == [
        True,
        True,
        False,
    ]


def test_letters_and_option_texts_vote_together() -> None:
    texts = ["\\boxed{B}", "\\boxed{Paris}", None, "(A)", "B."]
    assert [graded.answer_class for graded in get_verifier("choice").grade(texts, CAPITALS)] == [0, 0, None, 1, 0]


@pytest.mark.parametrize("label", ["", "Paris", "12", '{"answer": "Rome", "options": ["Paris"]}', '["B"]'])
def test_a_label_that_is_no_choice_is_refused_before_any_text(label: str) -> None:
    with pytest.raises(UsageError, match="verifier=choice"):
        get_verifier("choice").grade([], label)


@pytest.mark.parametrize("dress", ["\\boxed{X}", "The answer is (X).", "Answer: X", "X", "<answer>X</answer>"])
@pytest.mark.parametrize("options", [["d", "a", "b", "c"], ["C", "Al", "B", "Tl"], ["2c", "0.5c", "d", "c"]])
def test_a_letter_of_the_question_is_that_letter_whatever_the_options_say(dress: str, options: list[str]) -> None:
    label = json.dumps({"answer": "D", "options": options})
    assert [chosen(dress.replace("X", letter), label) for letter in "ABCD"] == list("ABCD")


@pytest.mark.parametrize(
    "text",
    [
        "<answer>B</answer>",
        "<answer>(B) Paris</answer>",
        "The correct statement is B. Lead is heavier.",
        "We compare both.\n\nB. Lead is heavier.",
        "Answer: letter B",
        "The answer is not A but B.",
        "The answer is definitely B",
        "答案：(A)？再想一想。\n答案：（B）",
        "答案是B。",
        "正确答案是 B",
        "故选B。",
        "答案：B是正确的",
        "Réponse : B",
        "La respuesta es B",
        "Antwort: B",
        "الإجابة: B",
        "정답: B",
    ],
)
def test_b_is_read_in_other_forms_and_languages(text: str) -> None:
    assert chosen(text) == "B"
