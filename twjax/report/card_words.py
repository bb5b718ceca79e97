"""The words of a model card, in English and in Taiwan's Chinese."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Words:
    """A card's own words in one language."""

    comma: str
    other: str
    unknown: str
    lead: str
    lead_random: str
    through: str
    exported: str
    exported_random: str
    exported_unknown: str
    base: str
    base_name: str
    base_license: str
    base_origin: str
    data: str
    data_note: str
    earlier: str
    rebuilt: str
    not_checked: str
    corpus: str
    license: str
    source: str
    documents: str
    bytes: str
    rows: str
    tokens: str
    share: str
    contaminated: str
    not_looked: str
    training: str
    setting: str
    value: str
    evaluation: str
    evaluation_note: str
    average_note: str
    none_measured: str
    domain: str
    before: str
    after: str
    change: str
    step: str
    steps: str
    dated: str
    first: str
    last: str
    not_a_number: str
    measure: str
    forgotten: str
    forgotten_none: str
    forgotten_some: str
    untold: str
    broken: str
    branched: str
    since: str
    since_run: str
    as_of: str
    used: str
    use: str
    use_text: str
    load: str
    no_tokenizer: str
    versions: str
    written: str
    settings: Mapping[str, str]
    measures: Mapping[str, str]

    def listed(self, names: Iterable[str]) -> str:
        return self.comma.join(names)

    def at(self, steps: Iterable[int]) -> str:
        """Names steps, each once."""
        numbers = [f"{step:,}" for step in sorted(set(steps))]
        return (self.step if len(numbers) == 1 else self.steps).format(self.listed(numbers))


ENGLISH = Words(
    comma=", ",
    other="[繁體中文]({})",
    unknown="not recorded",
    lead=(
        "{name} is {base}, trained further on the texts below with twjax: {steps} steps, {tokens} "
        "tokens."
    ),
    lead_random=(
        "{name} was trained from random weights on the texts below with twjax: {steps} steps, "
        "{tokens} tokens."
    ),
    through="In between were runs of their own, whose texts are not listed here: {}.",
    exported=(
        "{base} itself is {origin}, trained further with twjax; those texts are listed below as "
        "well."
    ),
    exported_random=(
        "{base} itself was trained from random weights with twjax; those texts are listed below as "
        "well."
    ),
    exported_unknown="{base} was written by twjax; what it was trained on is not recorded.",
    base="Base model",
    base_name="model",
    base_license="licence",
    base_origin="its own base model",
    data="Data",
    data_note=(
        "Documents, bytes and licences are those of the corpora's manifests; tokens are rows times "
        "their length, padding included. A use must satisfy the licences of the texts and of the "
        "base model."
    ),
    earlier="Read before that, by {name}, in {steps} steps and {tokens} tokens:",
    rebuilt="rebuilt since; not recorded",
    not_checked="Not recorded whether these were built anew after they were read: {}.",
    corpus="corpus",
    license="licence",
    source="source",
    documents="documents",
    bytes="bytes",
    rows="rows read",
    tokens="tokens read",
    share="share",
    contaminated=(
        "Items of evaluation sets: when {name} was built, {count} documents that hold some were "
        "found."
    ),
    not_looked="Items of evaluation sets: not recorded whether {names} hold any.",
    training="Training",
    setting="setting",
    value="value",
    evaluation="Evaluation",
    evaluation_note="Bits per byte of held-out text, lower is better.",
    average_note=(
        "The exported weights are an average over steps; these figures are of the weights "
        "themselves."
    ),
    none_measured="Not measured: {}.",
    domain="domain",
    before="before",
    after="after",
    change="change",
    step="step {}",
    steps="steps {}",
    dated="{} ({})",
    first="first measured",
    last="last measured",
    not_a_number="not a number",
    measure="measure",
    forgotten="What was forgotten",
    forgotten_none="No evaluated domain got worse.",
    forgotten_some="Worse than before: {}.",
    untold="Evaluated only once, so that no change can be told: {}.",
    broken="The evaluation gave no number: {}.",
    branched="The run branched off from {name} at step {step}; the log of {name} is not here.",
    since="Only since {at}, and what was forgotten before that is not recorded here: {names}.",
    since_run="Compared with the end of {}: what was forgotten before that is not recorded here.",
    as_of="These are of {}; the exported {} was not evaluated.",
    used="Of what a protected domain was allowed to lose, it used: {}.",
    use="Intended use and limits",
    use_text=(
        "Trained to predict text. This run did nothing for safety, refusals or truthfulness: "
        "whatever of that the base had may have changed, and was not measured unless it is listed "
        "above. It writes wrong statements in a confident voice, and repeats what its texts say; "
        "names, laws and figures need checking. Test it on your own task before you use it."
    ),
    load="How to load it",
    no_tokenizer="This folder has no tokenizer: the one that it was trained with belongs to it.",
    versions="Versions",
    written="Written by twjax {}.",
    settings={},
    measures={},
)

CHINESE = Words(
    comma="、",
    other="[English]({})",
    unknown="未記錄",
    lead=(
        "{name} 以 {base} 為基礎，用 twjax 在下列文字上持續預訓練：{steps} 步、{tokens} 個 token。"
    ),
    lead_random=(
        "{name} 由隨機權重開始，用 twjax 在下列文字上訓練：{steps} 步、{tokens} 個 token。"
    ),
    through="中間還經過其他訓練，所用的文字不在此列：{}。",
    exported="{base} 本身是以 {origin} 為基礎、用 twjax 持續預訓練而成，當時所用的文字也列在下面。",
    exported_random="{base} 本身是用 twjax 由隨機權重訓練而成，當時所用的文字也列在下面。",
    exported_unknown="{base} 是 twjax 匯出的模型，當時用了哪些文字未記錄。",
    base="基礎模型",
    base_name="模型",
    base_license="授權",
    base_origin="它的基礎模型",
    data="資料來源",
    data_note=(
        "文件數、位元組與授權取自各語料的 manifest；token 數是列數乘以列長，含填充。"
        "使用時須同時符合文字與基礎模型的授權。"
    ),
    earlier="在此之前，{name} 讀過的文字（{steps} 步、{tokens} 個 token）：",
    rebuilt="之後重新建置過，未記錄",
    not_checked="讀取之後是否重新建置過，未記錄：{}。",
    corpus="語料",
    license="授權",
    source="來源",
    documents="文件數",
    bytes="位元組",
    rows="讀入列數",
    tokens="讀入 token",
    share="比例",
    contaminated="評測題目：建置 {name} 時找到 {count} 份含有評測題目的文件。",
    not_looked="評測題目：{names} 是否含有評測題目，未記錄。",
    training="訓練",
    setting="設定",
    value="值",
    evaluation="評測",
    evaluation_note="未參與訓練之文字的每位元組位元數（bits per byte），愈低愈好。",
    average_note="匯出的是權重的平均，以下數字則是權重本身的。",
    none_measured="未測：{}。",
    domain="領域",
    before="之前",
    after="之後",
    change="變化",
    step="第 {} 步",
    steps="第 {} 步",
    dated="{}（{}）",
    first="最早一次評測",
    last="最近一次評測",
    not_a_number="不是數值",
    measure="項目",
    forgotten="遺忘了什麼",
    forgotten_none="評測過的領域都沒有變差。",
    forgotten_some="比之前差：{}。",
    untold="只評測過一次，無從比較：{}。",
    broken="評測結果不是數值：{}。",
    branched="這次訓練是從 {name} 的第 {step} 步分支出來的，{name} 的紀錄不在這裡。",
    since="只與{at}相比，在那之前遺忘了什麼，這裡沒有記錄：{names}。",
    since_run="只與 {} 訓練結束時相比；在那之前遺忘了什麼，這裡沒有記錄。",
    as_of="以上是到{}為止的結果；匯出的{}沒有評測。",
    used="受保護領域用掉的遺忘預算：{}。",
    use="用途與限制",
    use_text=(
        "這個模型學的是預測文字。這次訓練沒有處理安全性、拒答或真實性："
        "基礎模型原有的行為可能已經改變，除非上面列出，否則沒有測過。它會用肯定的語氣寫出錯誤的內容，也會重複訓練文字裡的說法；"
        "人名、法條與數字都需要查證。用在自己的工作之前，請先測試。"
    ),
    load="載入方式",
    no_tokenizer="這個資料夾沒有附上 tokenizer；使用時須搭配訓練時的那一個。",
    versions="版本",
    written="由 twjax {} 產生。",
    settings={
        "steps": "步數",
        "tokens": "token 數",
        "batch": "每步列數",
        "row length": "列長（token）",
        "learning rate": "學習率",
        "optimizer": "最佳化器",
        "precision": "計算精度",
        "forgetting budget": "遺忘預算（bits per byte）",
        "adapter": "轉接器（adapter）",
        "frozen weights": "凍結的權重",
        "kept close to the base": "貼近基礎模型（KL 權重）",
        "devices": "裝置",
    },
    measures={
        "Multiple choice: right answers": "選擇題答對率",
        "Taiwan's wording preferred": "偏好臺灣用語的比率",
        "Questions about Taiwan: right answers": "臺灣常識題答對率",
        "Simplified characters written": "寫出的簡體字（每千漢字）",
        "Mainland terms written": "寫出的中國用語（每千漢字）",
    },
)

WORDS = {"en": ENGLISH, "zh-TW": CHINESE}
