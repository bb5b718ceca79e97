"""The licence policy: names in all their forms, expressions, and what a file of rows may say."""

import dataclasses
import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twjax.corpus import licensing
from twjax.corpus.document import Document
from twjax.corpus.licensing import DEFAULT, LicensePolicy, canonical, judge, parse

RULES = parse(DEFAULT, DEFAULT.read_bytes())
HEAD = "field\tpattern\tdecision\twhy\n"


def make(license: str, source: str = "s") -> Document:
    return Document(id=license, text="文", source=source, license=license, lang="zh-TW")


@pytest.mark.parametrize(
    "license, decision",
    [
        ("Public domain in Taiwan", "allow"),
        ("Public domain in Taiwan (ROC Copyright Act Art. 9: laws and official documents are not "
         "subject to copyright)", "allow"),
        ("CC0-1.0", "allow"),
        ("CC0 1.0 Universal", "allow"),
        ("Creative Commons Zero v1.0 Universal", "allow"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "allow"),
        ("CC BY 4.0", "allow"),
        ("創用CC 姓名標示 4.0 國際", "allow"),
        ("CC BY-SA (創作共用 姓名標示-相同方式分享, version not stated; license.md)", "allow"),
        ("CC BY-ND 3.0 TW (Ministry of Education; format conversion CC0)", "verbatim"),
        ("CC-BY-NC-4.0", "refuse"),
        ("CC BY-NC-ND 4.0", "refuse"),
        ("Creative Commons Attribution-NonCommercial 4.0 International", "refuse"),
        ("創用 CC 姓名標示-非商業性-相同方式分享 3.0 台灣", "refuse"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/deed.zh_TW", "refuse"),
        ("Vim License", "allow"),
        ("The MIT License", "allow"),
        ("Apache License, Version 2.0", "allow"),
        ("PSF-2.0 / 0BSD (Python documentation)", "allow"),
        ("政府資料開放授權條款－第1版", "allow"),
        ("台灣主權AI訓練語料授權條款-第1版", "flag"),
        ("GPL-2.0-or-later", "flag"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "flag"),
        ("All rights reserved.", "refuse"),
        ("著作權所有，禁止轉載", "refuse"),
        ("MIT OR CC-BY-NC-4.0", "allow"),
        ("MIT AND CC-BY-NC-4.0", "refuse"),
        ("CC BY-SA 4.0, GFDL 1.3", "flag"),
        ("MIT AND CC-BY-NC-4.0 OR Apache-2.0", "allow"),
        ("MIT AND (CC-BY-NC-4.0 OR CC-BY-4.0)", "allow"),
        ("CC0-1.0 (a remark); something else", "unknown"),
        ("mitigated", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
        ("((", "unknown"),
        ("MIT AND", "unknown"),
    ],
)  # fmt: skip
def test_what_the_default_policy_says(license, decision):
    assert judge(license, "s", RULES).decision == decision


TERMS = ["by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd"]
WORDS = {"by": "Attribution", "sa": "ShareAlike", "nd": "NoDerivatives", "nc": "NonCommercial"}
TAIWAN = {"by": "姓名標示", "sa": "相同方式分享", "nd": "禁止改作", "nc": "非商業性"}


@pytest.mark.parametrize("terms, version", [*itertools.product(TERMS, ["2.5", "3.0", "4.0"])])
def test_all_writings_of_creative_commons_are_one_licence(terms, version):
    name = f"cc-{terms}-{version}"
    parts = terms.split("-")
    writings = [
        name, name.upper(), name.replace("-", " "), f"CC {terms.upper()} v{version}",
        f"Creative Commons {'-'.join(WORDS[p] for p in parts)} {version} International License",
        f"創用 CC {'-'.join(TAIWAN[p] for p in parts)} {version} 國際 授權條款",
        f"https://creativecommons.org/licenses/{terms}/{version}/",
    ]  # fmt: skip
    assert {canonical(writing) for writing in writings} == {name}
    decision = "refuse" if "nc" in parts else "verbatim" if "nd" in parts else "allow"
    assert {judge(writing, "s", RULES).decision for writing in writings} == {decision}


LEAVES = {"MIT": 0, "CC BY-ND 4.0": 1, "GPL-3.0-only": 2, "Nobody's-1.0": 3, "CC-BY-NC-4.0": 4}
EXPRESSIONS = st.recursive(
    st.sampled_from(sorted(LEAVES)),
    lambda inner: st.tuples(st.sampled_from(["OR", "AND"]), inner, inner),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_expressions_take_the_best_or_the_worst(tree):
    def text(node) -> str:
        return node if isinstance(node, str) else f"({text(node[1])} {node[0]} {text(node[2])})"

    def rank(node) -> int:
        if isinstance(node, str):
            return LEAVES[node]
        return (min if node[0] == "OR" else max)(rank(node[1]), rank(node[2]))

    order = ["allow", "verbatim", "flag", "unknown", "refuse"]
    assert judge(text(tree), "s", RULES).decision == order[rank(tree)]


@given(
    st.text(
        st.sampled_from("CBYNcby0 -()/,;ORANDWITHmit.v4\n著作權") | st.characters(), max_size=30
    )
)
def test_any_text_gets_a_verdict(license):
    verdict = judge(license, license, RULES)
    assert verdict.decision in licensing._DECISIONS and verdict.why


def test_documents_are_kept_labelled_or_refused(tmp_path):
    policy = tmp_path / "policy.tsv"
    policy.write_text(
        HEAD + "# ours\nsource\tleaked-*\trefuse\tnot ours to use\n"
        "source\texams\tallow\tCopyright Act, art. 9\nlicence\tGPL-3.0*\tallow\twe comply\n",
        encoding="utf-8",
    )
    documents = [
        make("MIT"), make("CC BY-ND 4.0"), make("LGPL-3.0-only"), make("?"), make("CC BY-NC 4.0"),
        make("MIT", "leaked-mail"), make("?", "exams"), make("GPL-3.0-only"),
    ]  # fmt: skip
    step = LicensePolicy(policy=str(policy))
    outcome = step.apply(documents)
    assert [(d.license, d.meta.get("license_policy")) for d in outcome.kept] == [
        ("MIT", None), ("CC BY-ND 4.0", "verbatim"), ("LGPL-3.0-only", "review"), ("?", "unknown"),
        ("?", None), ("GPL-3.0-only", None),
    ]  # fmt: skip
    assert [(r.reason, r.value.split(":")[0]) for r in outcome.rejected] == [
        ("licence refused", "CC BY-NC 4.0"),
        ("source refused", "leaked-mail"),
    ]
    assert outcome.changed == {
        "labelled verbatim": 1,
        "labelled review": 1,
        "labelled unknown": 1,
    }
    strict = dataclasses.replace(step, unknown="refuse", verbatim="refuse").apply(documents)
    assert [r.reason for r in strict.rejected] == [
        "licence forbids changes", "licence unknown", "licence refused", "source refused",
    ]  # fmt: skip
    # Another machine needs the step only, and another file is another version.
    carried = pickle.dumps(step)
    before = step.versions()
    policy.write_text(HEAD + "source\texams\tallow\tx\n", encoding="utf-8")
    assert pickle.loads(carried).apply(documents).kept == outcome.kept
    assert LicensePolicy(policy=str(policy)).versions() != before
    alone = LicensePolicy(policy=str(policy), defaults=False, unknown="refuse")
    assert [d.source for d in alone.apply(documents).kept] == ["exams"]


@pytest.mark.parametrize(
    "rows, message",
    [
        ("", "first row must name the columns"),
        ("licence\tMIT\tallow\tx\n", "first row must name the columns"),
        (HEAD + "licence\tMIT\tallow\n", r"policy.tsv:2.*four cells"),
        (HEAD + "\n#\nlicence\tMIT\tperhaps\tx\n", r"policy.tsv:4.*'perhaps'"),
        (HEAD + "url\tMIT\tallow\tx\n", r"policy.tsv:2.*'url'"),
        (HEAD + "licence\tMIT OR X\tallow\tx\n", r"policy.tsv:2.*one licence"),
    ],
)
def test_a_wrong_policy_names_its_line(tmp_path, rows, message):
    path = tmp_path / "policy.tsv"
    path.write_text(rows, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        LicensePolicy(policy=str(path))


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match="name a policy"):
        LicensePolicy(defaults=False)
    with pytest.raises(ValueError, match=r"unknown.*'keep'"):
        LicensePolicy(unknown="keep")  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r"gone\.tsv"):
        LicensePolicy(policy=str(tmp_path / "gone.tsv"))


def test_every_default_row_is_reached():
    for number, rule in enumerate(RULES):
        name = rule.pattern.replace("-*", "-x").replace("*", "")
        assert judge(name, "", RULES[: number + 1]).decision == rule.decision, rule
