"""Scores of generated text, each against an independent computation."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.data import text_metrics, translation_metrics

TEXT = st.text(alphabet="甲乙丙丁 ab，。", max_size=12)


def plain(text):
    return [c for c in text if c not in " ，。"]


def slow_subsequence(a, b):
    """The textbook table of longest common subsequences."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        same = a[i] == b[j]
        table[i + 1][j + 1] = table[i][j] + 1 if same else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(a=TEXT, b=TEXT)
def test_the_longest_common_subsequence_is_the_tables(a, b):
    assert text_metrics.common_subsequence(a, b) == slow_subsequence(a, b)


@given(a=TEXT, b=TEXT)
def test_rouge_l_is_f1_of_the_subsequence(a, b):
    x, y = a.replace(" ", ""), b.replace(" ", "")
    # NFKC makes the full-width comma an ordinary one on both sides alike.
    if x and y:
        match = slow_subsequence(x, y)
        p, r = match / len(y), match / len(x)
        expected = 100 * 2 * p * r / (p + r) if match else 0.0
    else:
        expected = 100.0 * (x == y)
    assert text_metrics.rouge_l([a], [b])["rouge_l"] == pytest.approx(expected)


@given(a=TEXT, b=TEXT)
def test_character_f1_counts_shared_characters(a, b):
    x, y = plain(a), plain(b)
    rest, common = list(y), 0
    for character in x:
        if character in rest:
            rest.remove(character)
            common += 1
    if x and y:
        p, r = common / len(y), common / len(x)
        expected = 100 * 2 * p * r / (p + r) if common else 0.0
    else:
        expected = 100.0 * (x == y)
    assert text_metrics.character_f1([a], [b])["character_f1"] == pytest.approx(expected)


def test_the_best_right_answer_counts_and_width_doesnt():
    targets = [["１９８７年", "民國七十六年"], ["臺北"]]
    predictions = ["1987年。", "台北"]
    assert text_metrics.exact_match(targets, predictions) == {"exact_match": 50.0}
    # 1987年 is all right; 台北 shares one of two characters with 臺北.
    assert text_metrics.character_f1(targets, predictions) == {"character_f1": 75.0}
    assert text_metrics.rouge_l(["民國七十六年"], ["76年"])["rouge_l"] == pytest.approx(200 / 9)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("C", "C"),
        ("(C)", "C"),
        ("Ｃ", "C"),
        ("（Ｃ）三月", "C"),
        ("C. 三月", "C"),
        ("答案是C", "C"),
        ("選 B，因為 C 不對", "B"),
        ("三月", None),
        ("CD", None),
        ("abc", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(text, letter):
    assert text_metrics.letter(text) == letter
    assert text_metrics.accuracy(["C"], [text]) == {"accuracy": 100.0 * (letter == "C")}


def test_entities_are_counted_over_all_examples():
    targets = ["人名：王小明\n地名：臺北", "無", "組織：中研院"]
    predictions = ["地名：臺北\n人名：小明", "地名：高雄", "組織： 中研院"]
    # Right 2, given 3, found 4.
    assert text_metrics.entity_f1(targets, predictions)["entity_f1"] == pytest.approx(400 / 7)
    assert text_metrics.entity_f1(["無"], ["無"]) == {"entity_f1": 100.0}
    assert text_metrics.entity_f1(["無"], ["地名：臺北"]) == {"entity_f1": 0.0}


def test_wrong_lengths_are_said():
    for metric in (text_metrics.exact_match, translation_metrics.bleu, translation_metrics.chrf):
        with pytest.raises(ValueError, match="2 targets don't go with 1 predictions"):
            metric(["甲", "乙"], ["甲"])
        with pytest.raises(ValueError, match="No right answer"):
            metric([[]], ["甲"])


EXAMPLES = (
    (["the cat sat on the mat .", "a cat was on the mat"], "the the cat on mat!"),
    (["don't &quot;stop&quot; at 3.5-4.0, ok?"], 'don\'t "stop" at 3.5-4.0 ok?'),
    (["x"], "completely different text here"),
)


def test_english_scores_are_those_of_sacrebleu():
    """sacreBLEU 2.6.0: BLEU() and CHRF() of these sentences, of each and of all."""
    alone = [(20.412414523193153, 41.71049465591346), (75.16501147964685, 38.772266067720054)]
    for (answers, prediction), (bleu, chrf) in zip(EXAMPLES, [*alone, (0, 16.129032)], strict=True):
        found = translation_metrics.bleu([answers], [prediction])["bleu"]
        assert found == pytest.approx(bleu)
        assert translation_metrics.chrf([answers], [prediction])["chrf"] == pytest.approx(chrf)
    targets, predictions = zip(*EXAMPLES, strict=True)
    assert translation_metrics.bleu(targets, predictions)["bleu"] == pytest.approx(52.73680880348)
    assert translation_metrics.chrf(targets, predictions)["chrf"] == pytest.approx(39.18276421945)


def test_chinese_is_split_by_characters_of_every_block():
    tokens = translation_metrics.tokens
    assert tokens("𠮷野家有Wi-Fi，「很好」。") == [*"𠮷野家有", "Wi-Fi", *"，「很好」。"]
    assert tokens("ㄅㄆ 㐀 鿿 2,000.5 元") == ["ㄅ", "ㄆ", "㐀", "鿿", "2,000.5", "元"]
    # Quotation marks and dashes that English has too aren't Chinese.
    assert tokens("“a”—b…") == ["“a”—b…"]


TRAPS = (
    ("他說“今天—明天…”都可以", "他說「今天—明天」都可以"),
    ("遮的人𠢕𨑨迌足濟", "遮的人𠢕迌足濟𨑨"),
    ("鿍鿎鿏是元素的舊字", "鿎鿏鿍是元素舊字"),
)
# Their tokens, BLEU and chrF.
SACREBLEU = (
    ("他 說 “ 今 天 — 明 天 … ” 都 可 以", 42.86982293646294, 34.376554624841226),
    ("遮 的 人 𠢕𨑨 迌 足 濟", 34.57207846419411, 40.23809523809525),
    ("鿍鿎鿏 是 元 素 的 舊 字", 32.159351091190125, 26.15001410604778),
)


def test_chinese_scores_are_both_reported():
    """sacreBLEU 2.6.0 on what its `zh` mistakes: BLEU(tokenize="zh") and CHRF()."""
    for (answer, said), (own, bleu, chrf) in zip(TRAPS, SACREBLEU, strict=True):
        assert translation_metrics.sacrebleu_zh_tokens(answer) == own.split()
        found = translation_metrics.bleu_sacrebleu_zh([answer], [said])["bleu_sacrebleu_zh"]
        assert found == pytest.approx(bleu)
        assert translation_metrics.chrf([answer], [said])["chrf"] == pytest.approx(chrf)
        # Ours is another figure here.
        assert abs(translation_metrics.bleu([answer], [said])["bleu"] - bleu) > 0.1


@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_chrf_is_the_definition(pairs):
    """Popović 2015: arithmetic means over the orders that both have, F with β = 2."""
    sums = {n: [0, 0, 0] for n in range(1, 7)}
    for answer, prediction in pairs:
        a, b = answer.replace(" ", ""), prediction.replace(" ", "")
        for n, total in sums.items():
            first = [a[i : i + n] for i in range(len(a) - n + 1)]
            second = [b[i : i + n] for i in range(len(b) - n + 1)]
            if first:
                total[0] += len(second)
            total[1] += len(first)
            total[2] += sum(min(first.count(g), second.count(g)) for g in set(second))
    used = [(m / h, m / r) for h, r, m in sums.values() if h and r]
    p = sum(x for x, _ in used) / len(used) if used else 0
    r = sum(x for _, x in used) / len(used) if used else 0
    expected = 100 * 5 * p * r / (4 * p + r) if p + r else 0
    found = translation_metrics.chrf([a for a, _ in pairs], [b for _, b in pairs])["chrf"]
    assert found == pytest.approx(expected)


@given(
    answer=st.text("甲乙丙丁", min_size=4, max_size=12), prediction=st.text("甲乙丙丁", max_size=12)
)
def test_bleu_is_the_definition(answer, prediction):
    """Papineni et al. 2002 for one answer, where every order has a match; else smoothed."""
    found = translation_metrics.bleu([answer], [prediction])["bleu"]
    precisions = []
    for n in range(1, 5):
        grams = [prediction[i : i + n] for i in range(len(prediction) - n + 1)]
        have = [answer[i : i + n] for i in range(len(answer) - n + 1)]
        matched = sum(min(grams.count(g), have.count(g)) for g in set(grams))
        precisions.append(matched / len(grams) if grams else 0.0)
    if all(precisions):
        mean = math.prod(precisions) ** 0.25
        brevity = min(1.0, math.exp(1 - len(answer) / len(prediction)))
        assert found == pytest.approx(100 * brevity * mean)
    else:
        assert found == 0.0 or (len(prediction) >= 4 and precisions[0] > 0 and found < 100)


def test_a_copy_scores_full_marks():
    texts = ["今天天氣很好。", "Python 3.12 發布了！"]
    for metric in (
        translation_metrics.bleu,
        translation_metrics.chrf,
        text_metrics.rouge_l,
        text_metrics.character_f1,
        text_metrics.exact_match,
    ):
        (score,) = metric(texts, texts).values()
        assert score == pytest.approx(100.0)
