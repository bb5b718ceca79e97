"""How observations are told and asked about in Taiwan.

A document is a row of clauses, each left out where the record hasn't all the fields that it names;
the fields are those of `twjax.data.observation_text`. The first document has all of them: it is
what questions are answered from. Questions name `kind`, `counter`, `class`, `class_counter`.
"""

from twjax.data.templates import Template

DOCUMENTS = (
    (
        "這是一{counter}{kind}。",
        "編號為{id}。",
        "觀測時間是臺灣時間{date}{clock}，即協調世界時{utc}。",
        "觀測到臺灣時間{until}結束，歷時{duration}。",
        "位置在{place}。",
        "以度分秒表示，是{sexagesimal}。",
        "涵蓋範圍{extent}。",
        "觀測平臺是{platform}。",
        "使用的儀器是{sensor}。",
        "校正資訊：{calibration}。",
        "地面解析度為{resolution}。",
        "共標註{total}筆：{labels}。",
        "\n\n逐筆標註如下：\n{details}\n",
        "\n\n圖說：\n{captions}\n",
        "\n資料來源：{source}。",
        "授權方式：{licence}。",
    ),
    (
        "【{kind}】",
        "{id}",
        "\n時間：{date}{clock}（臺灣時間）",
        "\n結束：{until}（共{duration}）",
        "\n位置：{place}",
        "\n範圍：{extent}",
        "\n平臺：{platform}",
        "\n儀器：{sensor}",
        "\n校正：{calibration}",
        "\n解析度：{resolution}",
        "\n標註：{labels}",
        "\n明細：\n{details}",
        "\n圖說：{captions}",
        "\n來源：{source}",
        "\n授權：{licence}",
    ),
    (
        "有一{counter}{kind}，這裡用文字說給你聽。",
        "時間是臺灣時間{date}，{clock}開始。",
        "前後{duration}。",
        "地點在{place}。",
        "這是{platform}記錄下來的。",
        "用的儀器是{sensor}。",
        "一個像素大約是地面上的{resolution}。",
        "整個畫面{extent}。",
        "裡面標出了{labels}。",
        "\n圖上看到的，原文是這麼說的：\n{captions}\n",
        "資料來自{source}，",
        "採用{licence}授權。",
    ),
    (
        "以下是原始紀錄：\n\n{record}\n\n",
        "換句話說，這是一{counter}{kind}，",
        "從臺灣時間{date}{clock}開始觀測，",
        "地點在{place}，",
        "儀器是{sensor}，",
        "解析度{resolution}，",
        "標註了{labels}，",
        "資料以{licence}授權釋出。",
        "\n\n圖說：\n{captions}",
    ),
)

QUESTIONS = {
    "date": (
        "這{counter}{kind}是西元幾年幾月幾日（臺灣時間）觀測的？",
        "以臺灣時間來說，觀測開始的那天是西元哪一天？",
        "請寫出觀測日期，用西元紀年、臺灣時間。",
    ),
    "roc_date": (
        "換算成民國紀年，這{counter}{kind}是哪一天觀測的？（以臺灣時間為準）",
        "觀測開始那天是民國幾年幾月幾日？",
        "請以民國紀年寫出臺灣時間的觀測日期。",
    ),
    "clock": (
        "觀測是在臺灣時間幾點幾分幾秒開始的？",
        "換成臺灣時間，開始的時刻是幾點？請答到秒。",
    ),
    "duration": ("這{counter}{kind}總共多久？", "從開始到結束，一共經過多少時間？"),
    "place": (
        "觀測地點的經緯度是多少？請用東經、西經、北緯、南緯表示。",
        "這{counter}{kind}的位置在哪裡？請寫出經緯度。",
    ),
    "platform": ("觀測平臺是什麼？", "這{counter}{kind}是從哪個平臺取得的？"),
    "sensor": ("使用了什麼儀器？", "這{counter}{kind}是用哪種儀器記錄的？"),
    "calibration": ("校正資訊是什麼？", "儀器的校正值怎麼記載？"),
    "resolution": ("地面解析度是多少？", "一個像素相當於地面上幾公尺？"),
    "classes": ("標註到哪些類別？請用頓號分開。", "這{counter}{kind}裡標出了哪些東西？"),
    "count": ("標註中有幾{class_counter}{class}？", "{class}一共標註了多少{class_counter}？"),
    "total": ("總共有幾筆標註？", "這{counter}{kind}一共標註了幾筆？"),
    "begin": ("第一筆標註的{class}從第幾秒開始？", "第一筆{class}出現在第幾秒？"),
    "source": ("資料來源是哪裡？", "這{counter}{kind}由誰提供？"),
    "licence": ("採用什麼授權？", "這份資料的授權方式是什麼？"),
}

ANSWERS = (
    Template("請根據下列觀測紀錄回答問題。\n\n{record}\n\n問題：{question}\n答案：", "{answer}"),
    Template("{description}\n\n{question}\n", "{answer}"),
    Template("觀測說明：{description}\n\n問題：{question}\n答：", "{answer}"),
    Template("紀錄：\n{record}\n\n{question}\n答：", "{answer}", 1),
)
