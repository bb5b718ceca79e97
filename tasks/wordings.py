"""How supervised tasks are worded, as people in Taiwan would: formal and casual, with and without
solved examples.

The fields are those of the readers in `twjax.data.readers`. An answer is worded as it is in the
data, so that metrics compare like with like.
"""

from twjax.data.templates import Template

EN_TO_TW = (
    Template("請將下列英文翻譯成臺灣慣用的繁體中文。\n\n英文：{source}\n中文：", "{target}"),
    Template("把這段英文翻成中文（台灣用語）：\n{source}\n\n翻譯：", "{target}"),
    Template("{source}\n\n上面這段英文用台灣的中文怎麼說？\n", "{target}"),
    Template("英文原文：{source}\n正體中文譯文：", "{target}"),
    Template("英文：{source}\n台灣中文：", "{target}", 2),
    Template(
        "原文：{source}\n譯文：", "{target}", 3, "以下是英文翻譯成繁體中文（台灣）的例子。\n\n"
    ),
)

TW_TO_EN = (
    Template("請將下列中文翻譯成英文。\n\n中文：{source}\n英文：", "{target}"),
    Template("這段話的英文怎麼寫？\n{source}\n\n英文：", "{target}"),
    Template("{source}\n\n幫我把上面這段翻成英文。\n", "{target}"),
    Template("Translate this text from Taiwan into English.\n\n{source}\n\nEnglish: ", "{target}"),
    Template("中文：{source}\n英文：", "{target}", 2),
)

CN_TO_TW = (
    Template(
        "請將下列中國大陸用語的簡體中文，改寫成臺灣慣用的繁體中文。\n\n簡體：{source}\n繁體：",
        "{target}",
    ),
    Template("這段是中國的寫法：\n{source}\n\n換成台灣的說法：\n", "{target}"),
    Template("{source}\n\n上面這段改成台灣用語，不要只換字體。\n", "{target}"),
    Template("簡體中文：{source}\n臺灣正體中文：", "{target}"),
    Template("原文（簡體）：{source}\n台灣版：", "{target}", 2),
)

QUESTIONS = (
    Template(
        "請閱讀下列文章，並從文中找出答案。\n\n文章：{context}\n\n問題：{question}\n答案：",
        "{answer}",
    ),
    Template("{context}\n\n看完上面這段，{question}\n", "{answer}"),
    Template("問題：{question}\n\n請在這段文字裡找答案：{context}\n\n答案：", "{answer}"),
    Template("文章：{context}\n問題：{question}\n答案：", "{answer}", 1),
)

CHOICES = (
    Template(
        "以下是一題{subject}的單選題，請選出正確答案，作答時只寫代號。\n\n{question}\n{options}\n\n"
        "答案：",
        "{answer}",
    ),
    Template("{question}\n{options}\n\n這題選哪個？\n", "{answer}"),
    Template("題目：{question}\n選項：\n{options}\n請從{letters}中選出一個。\n答案：", "{answer}"),
    Template("題目：{question}\n{options}\n答案：", "{answer}", 3, "以下是單選題。\n\n"),
)

ENTITIES = (
    Template(
        "請找出下列句子中的人名、地名與組織名稱，每行一個；沒有就寫「無」。\n\n句子：{text}\n結果：\n",
        "{entities}",
    ),
    Template(
        "{text}\n\n上面這句提到了哪些人、地方和組織？一行列一個，都沒有就寫「無」。\n", "{entities}"
    ),
    Template("句子：{text}\n專有名詞（人名、地名、組織，沒有寫無）：\n", "{entities}"),
    Template("句子：{text}\n人名、地名、組織：\n", "{entities}", 3),
)

TITLES = (
    Template("請為下列文章擬一個標題。\n\n{text}\n\n標題：", "{title}"),
    Template("{text}\n\n這篇文章的標題可以怎麼下？\n", "{title}"),
    Template("文章：{text}\n標題：", "{title}"),
    Template("文章：{text}\n標題：", "{title}", 1),
)

SUMMARIES = (
    Template("請用一兩句話摘要下列文章。\n\n{text}\n\n摘要：", "{summary}"),
    Template("{text}\n\n幫我抓一下重點：\n", "{summary}"),
    Template("文章：{text}\n簡介：", "{summary}"),
    Template("文章：{text}\n摘要：", "{summary}", 1),
)

TAIGI_READINGS = (
    Template("請寫出下列臺語詞語的臺羅拼音。\n\n{han}\n拼音：", "{reading}"),
    Template("「{han}」的台語怎麼唸？用台羅寫：", "{reading}"),
    Template("台語漢字：{han}\n台羅：", "{reading}"),
    Template("{han}：", "{reading}", 4, "下面是台語詞語和臺羅拼音。\n\n"),
)

TAIGI_HAN = (
    Template("請將下列臺羅拼音寫成臺語漢字。\n\n{reading}\n漢字：", "{han}"),
    Template("台語的「{reading}」漢字怎麼寫？\n", "{han}"),
    Template("台羅：{reading}\n台語漢字：", "{han}"),
    Template("{reading}：", "{han}", 4, "下面是臺羅拼音和台語漢字。\n\n"),
)

TAIGI_TO_MANDARIN = (
    Template("請將下列臺語句子翻譯成華語。\n\n臺語：{taigi}\n華語：", "{mandarin}"),
    Template("「{taigi}」這句台語是什麼意思？用國語說：", "{mandarin}"),
    Template("台語：{taigi}\n國語：", "{mandarin}"),
    Template("台語：{taigi}\n國語：", "{mandarin}", 3),
)

MANDARIN_TO_TAIGI = (
    Template("請將下列華語句子翻譯成臺語，以漢字書寫。\n\n華語：{mandarin}\n臺語：", "{taigi}"),
    Template("「{mandarin}」台語怎麼講？（寫漢字）\n", "{taigi}"),
    Template("國語：{mandarin}\n台語：", "{taigi}"),
    Template("國語：{mandarin}\n台語：", "{taigi}", 3),
)

HAKKA_TO_MANDARIN = (
    Template("請將下列客語句子翻譯成華語。\n\n客語：{hakka}\n華語：", "{mandarin}"),
    Template("「{hakka}」這句客家話是什麼意思？用國語說：", "{mandarin}"),
    Template("客語：{hakka}\n國語：", "{mandarin}"),
    Template("客語：{hakka}\n國語：", "{mandarin}", 3),
)

MANDARIN_TO_HAKKA = (
    Template("請將下列華語句子翻譯成客語，以漢字書寫。\n\n華語：{mandarin}\n客語：", "{hakka}"),
    Template("「{mandarin}」客家話怎麼講？（寫漢字）\n", "{hakka}"),
    Template("國語：{mandarin}\n客語：", "{hakka}"),
    Template("國語：{mandarin}\n客語：", "{hakka}", 3),
)
