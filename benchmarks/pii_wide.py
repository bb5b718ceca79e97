# ruff: noqa: E501 (sentences stay in one piece)
"""The wide set of templates for the measurement of personal-data detection.

Forms, chats, posts, mails, logs, contracts, hospital notes, notices, labels and résumés; every
third template (`WIDE_HELD`) is held back from the tuning of the rules (`WIDE_TUNED`). All invented.
A template is a text, or a text and what makes its value where it asks for a writing of its own.
"""

from __future__ import annotations

import random

from pii_fourth import Template
from pii_wide_values import (
    MAKERS,
    bare_landline,
    english_address,
    english_birth,
    local_landline,
    named_secret,
    plain_email,
    road_only,
    sure_identity,
    sure_line,
    written_birth,
)

WIDE: dict[str, list[Template]] = {
    "mobile": [
        "爸，我手機沒電了，你打{}找阿宏", "領貨人：曾○○／手機末三碼以外請電{}確認", "寄件者電話\t{}", "看板 forsale，站內信或{}皆可", "業務專員 洪志豪 M {}", "〔行動〕{}", "Dear 老師，我的聯絡電話是{}，謝謝", "賣家電話：{} 面交捷運板南線", "住院中如需聯繫請撥家屬手機 {}（長女）", "申訴人電話：{}", "有興趣的可以私訊我或是打 {}",
        "聯絡人：林小姐，電話（手機）：{}", "遺失iPhone一支，拾獲請撥{}，薄酬致謝", "Mobile Phone: {}", "call me at {} anytime", "您好，這裡是物流中心，收件人電話{}無人接聽", "我改用這支：{}", "報案人提供門號{}供警方追查", "姓名,電話,備註\n王小明,{},素食", "保母 周媽媽 {} 有證照", "被告持用門號{}號行動電話與買家聯繫", "詐騙集團以{}號碼來電", "WhatsApp：{}", "{}（陳）\n{}（李）", "緊急連絡人：配偶/{}", "手機號碼（必填）*\n{}", "司機{}會在門口等",
    ],
    "landline": [
        "住家電話：{}", "H: {}", "(公){}", "(宅) {}", "公司電話 {}，請轉會計", "他家市話是{}", "請打我研究室電話{}", "電話/傳真：{}", "連絡電話：{}（晚上七點後）", "傳真電話{}", "Office: {}", "Tel:{}", "如有問題，請洽承辦人許小姐，電話{}", "電話：{}\n傳真：同上", "阿公家的電話一直都是{}", "房東家裡電話{}，手機不方便接", "我辦公室電話 {}，找不到就留言",
        "可於上班時間來電{}詢問", "受文者聯絡方式：{}", "客訴登記：陳先生 {} 要求回電", ("家裡電話{}，找我媽", bare_landline), ("電話：{}", bare_landline), ("TEL {}", bare_landline), ("市話{}，下班後可打", bare_landline), ("電話：{}（台北）", local_landline), ("住家電話{}", local_landline), "聯絡電話(日)：{} (夜)：同", "<li>電話：{}</li>",
    ],
    "identity number": [
        "姓名：黃淑娟　身分證字號：{}", "身分證統一編號　{}", "ID：{}", "身份證字號是{}，麻煩幫我查一下進度", "身分證號 {} 的掛號已取消", ("客人報了 {} 說要查保單", sure_identity), "受刑人{}，入監日期如附件", ("員工資料：李大同/{}/業務部", sure_identity), "外僑居留證號碼：{}", "ARC No. {}", "統一證號：{}（越南籍）", "National ID: {}", "戶政事務所查得本人統號為{}", "被保險人身分證：{}",
        ("1. 陳文彬（{}）\n2. 張麗華", sure_identity), ("乙方：謝宜君（以下簡稱乙方）{}", sure_identity), '"idNumber": "{}"', "身分證正面影本，字號{}", "病患ID {} 於急診就醫", "納稅義務人{}申報綜合所得稅", "證件號碼：{}", "我的身分證號碼打錯了，應該是{}才對", ("學生 {} 因故請假", sure_identity), "ID Card No：{}", "身分證後面那串是 {} 對嗎", "居留證統一證號為 {}。", ("{} 吳志強 男 已婚", sure_identity), "扶養親屬身分證字號\n{}",
    ],
    "health card": [
        "健保卡號：{}", "健保卡上的號碼是{}", "我健保卡掉了，卡號{}，要怎麼補辦？", "全民健保卡 卡號 {}", "健保卡（IC卡）號碼：{}", "NHI Card Number: {}", "病歷首頁\n姓名：林○○\n健保卡號：{}", "健保卡 {} 讀卡失敗", "掛號櫃台請病人念出健保卡號碼，他念了 {}", "請提供您健保卡正面下方的12碼：{}", "Health insurance card no.: {}", "健保卡背面寫的是 {} 嗎", "{} 是我的健保卡號", "換發後的健保卡新卡號為 {}", "健保卡卡片號碼為{}，請確認", "就醫時持健保卡（{}）", "健康保險卡號碼：{}", "藥局：請問健保卡卡號？\n客人：{}", '"nhi_card": "{}"', "健保IC卡：{}", "兒子的健保卡，號碼 {}", "虛擬健保卡綁定卡號 {}", "健保卡號碼(12位數)\n{}", "註冊健保快易通要輸入健保卡號，我的是{}",
    ],
    "passport": [
        "護照號碼：{}", "護照號 {}", "我的護照是 {}，名字是 WANG/HSIAOMING", "護照號碼（Passport No.）：{}", "旅客姓名 CHEN MEI LING 護照 {}", "請領隊幫我登記護照號碼 {}", "護照快過期了，號碼是{}，可以先訂票嗎？", "持護照第 {} 號入境", "遺失護照乙本，號碼{}", "passport no.: {}", "Passport Number：{}", "My passport number is {}.", "護照編號 {}", "中華民國護照：{}", "PP No. {}（護照）", "外籍生護照號碼：{}", "護照資料頁上印的 {} 就是號碼", "入住旅客護照號碼\n{}", "簽證申請表 護照號碼欄填 {}", "護照效期 2033/01/05，號碼 {}", "國籍：日本 護照號碼：{}", "{}（護照號碼）", '"passportNo":"{}"', "護照no {}", "護照正本（號碼 {}）已收",
    ],
    "card": [
        "信用卡卡號：{}", "卡號 {} 有效期限 05/29 末三碼請電洽", "刷這張：{}", "我要掛失信用卡，卡號是 {}", "Card No: {}", "他在釣魚網站輸入了{}和驗證碼", "請協助取消 {} 的自動扣繳", "持卡人姓名 WU CHIA HAO 卡號 {}", "信用卡 {} 遭盜刷三萬元", "付款卡片：{}（玉山）", "VISA {}", "Mastercard: {}", "American Express／{}", "訂房擔保卡號：{}", "card: {} exp 09/27", "帳單請寄給{}這張卡的持卡人", "授權碼 123456，卡號{}", "正卡 {}，附卡另寄", "請從 {} 扣款 1,200 元", "客戶提供信用卡資訊：{}", '"pan": "{}"', "這是我的卡 {} 幫我刷一下", "信用卡號碼\n{}", "信用卡末四碼之外的完整卡號為{}", "綁定卡片 {} 已失效", "聯名卡卡號{}，點數未入帳",
    ],
    "bank account": [
        "匯款帳號：{}", "戶名：徐明德　帳號：{}", "請匯款至第一銀行 007 {}", "中國信託（822）{}", "玉山 808 {} 戶名 高小姐", "薪資請轉入台新銀行{}帳戶", "我的郵局帳號 {} 麻煩今天匯", "退款帳號：國泰世華 {}", "銀行：兆豐\n分行：南港\n帳號：{}", "銀行代碼 012 帳號 {}", "ATM轉帳\n銀行代號：808\n轉入帳號：{}", "被害人依指示匯款至{}號帳戶", "人頭帳戶 {}（合作金庫）", "捐款請匯：土地銀行 {}", "Bank account number: {}", "Account No.: {} (Cathay United Bank)", "存摺影本帳號{}", "助學金匯入帳戶：{}", "租金每月5日前匯至甲方{}帳戶（永豐銀行）", "房租匯到 {} 就好，末五碼跟我說", "代墊的錢轉到{}，台北富邦", "受款帳號 {}", "戶頭 {}，戶名是我媽", "活期儲蓄存款帳號：{}", "團購匯款資訊：聯邦銀行(803) {}", "帳戶號碼：{}", "陳美玲 華南銀行 {}", "轉帳到我帳戶 {} 謝謝",
    ],
    "address": [
        "地址：{}", "我家在{}，到了打給我", "收件人地址 {}", "戶籍地址　{}", "請宅配到{}，管理員可代收", "寄件地：{}", "他租的套房在{}，一個月八千", "住{}的王先生報案", "聯絡地址：{}（同戶籍）", "被告　住{}", "外送地址 {} 不用餐具", "{}　林先生 收", "To: {} 謝太太", "現居地 {}", "立契約書人住址：{}", "案發地點在{}被害人家中", "搬到{}之後離公司比較近", "出租：{}，三房兩廳", "老家{}賣掉了", "履歷\n通訊地址：{}", "新郎家：{}", "計程車到{}，多少錢？", "病人住址：{}，獨居", ("我住{}", road_only), ("地址是{}", road_only), ("寄到{}", road_only), ("家在{}，門口有棵榕樹", road_only), ("Address: {}", english_address), ("I live at {}.", english_address), ("Ship to: {}", english_address), ("通訊地址（英文）：{}", english_address), "門牌：{}", "會員地址已更新為{}",
    ],
    "e-mail": [
        "信箱：{}", "e-mail：{}", "請寄給我 {} 謝謝", "有問題歡迎來信：{}", "我的gmail是{}", "作業寄助教 {}", "履歷請寄{}，主旨寫應徵", "註冊信箱{}收不到驗證碼", "聯絡方式 {}", "EMAIL: {}", "電子信箱 {} 或私訊", "推 abc: 可以寄給我嗎 {} 感謝大大", "樓主好人一生平安 {}", "Email（必填）\n{}", "寄件備份：{}", ("<a href=\"mailto:{}\">", plain_email), ("From: 王小明 <{}>", plain_email), ("{}, 您好", plain_email), ("user={} login failed", plain_email), "電郵：{}", "信件往來都用 {}", "求檔案 {}", "帳號：{}（密碼另傳）", "回條請寄{}。",
    ],
    "LINE id": [
        "LINE ID：{}", "我的LINE ID是 {}", "加我賴：{}", "賴：{}", "Line：{}", "想租的加賴 {}", "LINE: {} 私訊我", "請加 LINE（ID：{}）", "line id:{}", "LineID:{}", "用賴聊，我的ID {}", "LINE 帳號是 {} ，可以搜尋到", "可以加我Line嗎？ID是{}", "賴我 {}", "加賴聊聊～{}", "line的ID→{}", "聯絡請加 LINE ID「{}」", "Line ID / {}", "通訊軟體LINE：{}", "家教需求請賴 {}", "LINE_ID={}", "搜尋LINE ID：{} 即可加好友", "我賴{}，備註看屋", ("line {} 或電話都可", sure_line), ("Line/{}", sure_line), ("LINE:{} IG同名", sure_line), ("https://line.me/ti/p/~{}", sure_line), "暱稱小美，賴帳 {}", "被告以LINE帳號「{}」與被害人聯繫", "LINE暱稱阿明（ID：{}）",
    ],
    "IP address": [
        "IP: {}", "來源IP位址{}", "登入位置：台北，IP {}", "{} 嘗試暴力破解", "推 guest: 呵呵 {} 03/21 09:12", "留言者來自 {}", "客戶端 {} 連線逾時", "X-Forwarded-For: {}", "ssh 登入失敗 from {}", "上網IP為{}，申登人陳某", "[2023-05-06 12:30:11] {} GET /index.php 200", "該發文IP {} 經查為中華電信用戶", "remote_addr={}", "請幫我封鎖{}", "IP位置：{}", "※ 編輯: user ({} 臺灣), 11/02/2022 21:03:14", "ip={}&user=guest", "被告使用{}之網路位址", "防火牆紀錄 DROP {}", "匿名使用者 {} 的貢獻", "玩家IP：{} 已被踢出", "{} 這個IP一直亂留言",
    ],
    "plate": [
        "車牌：{}", "車號 {}", "我的車 {} 停在B2", "{} 這台車擋到我家門口", "機車車牌 {} 失竊", "請{}的車主儘速移車", "駕駛{}號自小客車行經路口", "騎乘{}號機車未戴安全帽", "承租車輛：Toyota Altis，車牌號碼{}", "被{}逼車，有影片", "牌照號碼 {}", "Uber司機車牌{}，白色", "{}違規停車檢舉", "警方追查車號{}之銀色轎車", "訪客停車登記 {} 王先生", "愛車gogoro {} 出售", "保險標的：{}（自用小客車）", "那台賓士 {} 開很快", "計程車{}拒載", "領牌：{}", "停車費繳費 車號：{}", "公務車{}借用登記", "車子{}被拖吊了", "被害人騎乘之車牌號碼{}號普通重型機車倒地", "行照 {} 影本", "我開 {}，會停在門口", "license plate: {}", "肇事逃逸車輛車牌為{}", "{} 黑色休旅車肇逃，求行車紀錄器",
    ],
    "birth date": [
        "出生日期：{}", "生日 {}", "生日：{}，血型O", "出生年月日：{}", "病患 {} 生，無過敏史", "我{}生，今年報名", "她是{}出生的", "兒子生日是{}", "立約人張先生，{}生", "姓名：李雅婷 性別：女 出生：{}", "被告 男 {}生", "我出生於{}", "生於{}的她今年要考駕照", "姓名/生日：陳小華/{}", "{}出生，戶籍桃園", "出生日（民國）：{}", "我女兒{}出生", "申請人出生年月日　{}", "生日密碼是{}，別跟別人說", "寶寶在{}出生了，母子均安", "學生基本資料\n生日：{}\n血型：A", "壽星：王媽媽 {}", "我是{}生的，雙魚座", "出生年月日(西元)：{}", "國曆生日 {}", '"birthDate":"{}"', "幫我算命，女，{}早上八點生", "命主 {} 卯時生", "身分證上寫{}出生", "員工生日：{}", ("Date of Birth: {}", english_birth), ("D.O.B. {}", english_birth), ("born on {}", english_birth), ("Birth date: {}", english_birth), ("birthday: {}", english_birth), ("My birthday is {}", english_birth), ("DOB {}", english_birth), ("出生於{}，家中排行老二", written_birth), ("張小姐（{}生）要保", written_birth), ("外婆{}生，身體硬朗", written_birth), ("先父生於{}", written_birth),
    ],
    "secret": [
        "API key: {}", "token={}", "金鑰 {} 不要外流", "我的key是{}，為什麼401？", "export SECRET={}", "```\n{}\n```", "誰把 {} commit 上去了", "Authorization: Bearer {}", "把 {} 貼進 .env 就好", "config.token = '{}'", "auth_token: \"{}\"", "--token {}", "webhook/憑證：{}", ("api_key={}", named_secret), ("API 金鑰：{}", named_secret), ('"client_secret": "{}"', named_secret), ("ACCESS_TOKEN={}", named_secret), ("secret key: {}", named_secret), ("X-API-Key: {}", named_secret), ("apikey = \"{}\"", named_secret), "請撤銷 {}", "log 裡印出 {}",
    ],
}  # fmt: skip

# Written after the rules were mended with the others, and run unseen.
WIDE_LAST: dict[str, list[Template]] = {
    "mobile": ["管委會公告：水電師傅 阿源 {}", "看診完有問題可撥個管師手機 {} 諮詢", "寄件人 劉先生 {}（寄付）", "徵室友，限女，意者傳訊 {}", "被害人於通話中提供其{}門號", "備註：客人手機 {}，到了打給他", "｜鄭家豪｜組長｜{}｜"],
    "landline": ["家電：{}", "連絡人電話(日) {}", "祖厝電話 {}，叔公會接", "校安中心通報：學生家裡電話{}", "請撥{}找行政助理", "聯絡資訊／電話 {}", "客戶住宅電話{}無人接聽"],
    "identity number": ["出租人身分證：{}", "借款人 {} 已逾期三期", "身分證字號:{} 性別:男", "請確認證號 {} 是否正確", "【報名資料】身分證字號/{}", "同意書簽署人（身分證字號{}）", "員工健檢名單：{} 許志明"],
    "health card": ["健保卡卡號（IC卡正面）{}", "請老師填寫學生健保卡號 {}", "民眾持健保卡至診所，卡號{}無法過卡", "健保卡遺失申請書 原卡號：{}", "輸入健保卡號後四碼之前：{}", "我的健保卡：{}，生日不提供"],
    "passport": ["護照號碼({})須與機票一致", "訂房者護照 {}", "出團名單：林○○ 護照號碼 {}", "Passport #{}", "新護照號碼變更為{}", "護照影本上號碼 {} 看不清楚"],
    "card": ["信用卡授權書 卡號：{} 有效期 08/30", "刷退至原卡 {}", "客訴：卡片 {} 重複扣款兩次", "媽媽的卡號是 {} 你先刷", "Credit Card: {}", "盜刷卡號{}已停卡"],
    "bank account": ["匯款至 {}（戶名：洪○○，中信銀）", "帳號給你：中國信託 822 {}", "押金退還帳戶：{} 玉山銀行", "警示帳戶 {}（台新銀行）", "請存入郵局帳號{}", "付款方式：轉帳，帳號{}，第一銀行", "薪資帳戶 華南銀行 {}"],
    "address": ["掛號收件：{} 廖太太", "住家{}淹水了", "被告於{}住處為警逮捕", "請到{}收件", "家訪紀錄 地址：{}", "帳單地址{}", ("住在{}的阿姨", road_only), ("Mailing address: {}", english_address), "租賃標的：{}"],
    "e-mail": ["聯絡信箱:{}", "有需要檔案的人留信箱，我的是{}", "指導教授 email {}", "請將履歷 e-mail 至 {} 王經理", "帳密：{} / ********", "推 cat: {} 麻煩了"],
    "LINE id": ["我的LINE：{}，歡迎詢問", "代購請加賴 {}", "line：{}", "LINE ID {}（小陳）", "或加LINE {} 詢問房況", "徵才聯絡 LINE ID:{}", "加我的賴{}"],
    "IP address": ["登入紀錄：{} 台中市", "可疑來源 {} 連線次數 5000", "login ip {}", "推 aaa: 推 {} 05/01 12:00", "對方IP {} 查到了", "sshd: Invalid user admin from {}"],
    "plate": ["違停車號{}已通報拖吊", "機車{}借我騎一天", "車牌{}的車主請至櫃檯", "賣車 2018 Yaris 車號{}", "被{}撞，對方跑了", "自用小客車 {} 車主周先生", "您的愛車{}保養時間到了"],
    "birth date": ["生日{}，請幫我查會員點數", "個案為{}生之女性", "王員出生於{}，未婚", "出生年月日:{} 籍貫:台灣", "保戶生日：{}", "我家老大{}出生", "學生{}生，設籍本區", ("Birthdate: {}", english_birth), ("He was born on {}", english_birth)],
    "secret": ["OPENAI_API_KEY={}", "我把 token {} 寫死在程式裡", "secrets:\n  key: {}", "git push 後收到警告：{}", ("password = '{}'", named_secret), ("token：{}", named_secret)],
}  # fmt: skip

# Likewise, after the rules were mended with that one too.
WIDE_FINAL: dict[str, list[Template]] = {
    "mobile": ["蟹老闆海產 宅配專線手機{}", "若聯絡不上我，請打我室友{}", "房客 賴同學 {}", "【徵才】時薪200，詳談{}", "手機號碼更正為{}", "接送司機：阿國 {}"],
    "landline": ["家中電話為{}", "請回撥 {} 王小姐", "社區警衛室 {}", "聯絡電話：{}（公司）", "他留了市內電話{}", "電話 : {}"],
    "identity number": ["身分證號碼：{}（影本附後）", "查被告（{}）於上開時地", "投保人:林美君 ID:{}", "身分證字號為{}之男子", "個案身分證 {}", "健檢報告 姓名：李○ 證號：{}"],
    "health card": ["健保卡號：{}\n看診科別：內科", "我媽健保卡卡號 {}", "健保卡晶片壞了，卡號是 {}", "孩童健保IC卡號碼{}", "請掃描健保卡 {}"],
    "passport": ["護照號碼為 {}", "護照：{}（效期十年）", "passport no {}", "我的新護照 {} 下來了", "外籍人士 護照號碼 {}", "機票需要護照號碼，{}"],
    "card": ["信用卡資料：{} / 06/29", "扣款卡號{}", "我把卡號 {} 傳給假客服了", "簽帳卡 {}", "請問 {} 這張可以累積哩程嗎", "卡友 {} 申請分期"],
    "bank account": ["帳號 {} 中華郵政", "匯款銀行：台灣企銀 帳號：{}", "我的帳戶是{}，國泰世華", "請將尾款匯入{}，合作金庫", "戶名 王○明 {} 彰化銀行", "ATM 轉入帳號 {}"],
    "address": ["戶籍：{}", "我現在住{}", "請寄至{}", "地點：我家（{}）", "收貨地址為{}，下午有人", ("請送到{}", road_only), ("Home address: {}", english_address), "{} 張媽媽收", "債務人 住{}"],
    "e-mail": ["我的電子信箱為{}", "意者請 mail 至 {}", "寄給 {} 和 助教", "gmail: {}", "聯繫：{}", "回覆到{}即可"],
    "LINE id": ["LINE搜尋ID：{}", "請加我的 LINE：{}", "有LINE嗎？我的是 {}", "意者加賴：{}", "line帳號 {}", "LINE ID -> {}"],
    "IP address": ["IP來源 {}", "封包來自 {}", "{} 在半夜登入三次", "client: {}, server: _", "發信 IP：{}", "使用 {} 連上校園網路"],
    "plate": ["車號：{}（灰色）", "車牌號碼 {} 已逾檢", "我家機車 {} 被偷", "租車 {} 取車時間九點", "停車格 {} 未繳費", "駕駛 {} 之自小客", "看到一台 {} 的貨車", "{} 的駕駛人請注意"],
    "birth date": ["出生年月日為{}", "小女生於{}", "{}生，現就讀國小", "生日是 {} 的會員", "病人出生日期 {}", "患者，女，{}出生", "我媽生日{}", ("Born: {}", english_birth), ("date of birth {}", english_birth)],
    "secret": ["api-key: {}", "TOKEN = \"{}\"", "不小心公開了 {}", ("access token: {}", named_secret), ("SECRET_KEY = '{}'", named_secret), "設定 {} 到環境變數"],
}  # fmt: skip

WIDE_HELD = {kind: templates[2::3] for kind, templates in WIDE.items()}
WIDE_TUNED = {
    kind: [t for place, t in enumerate(templates) if place % 3 != 2]
    for kind, templates in WIDE.items()
}


def positive(
    r: random.Random, kind: str, templates: dict[str, list[Template]]
) -> tuple[str, list[tuple[int, int]]]:
    """Returns a text and the places of the values of `kind` in it."""
    chosen = r.choice(templates[kind])
    template, make = (chosen, MAKERS[kind]) if isinstance(chosen, str) else chosen
    text, places = r.choice(["", "", "", "您好，", "（補充）", "* ", "客服紀錄："]), []
    parts = template.split("{}")
    text += parts[0]
    for part in parts[1:]:
        value = make(r)
        places.append((len(text), len(text) + len(value)))
        text += value + part
    return text + r.choice(["", "", "", "。", "，謝謝", "\n以上", "；其餘如附件"]), places
