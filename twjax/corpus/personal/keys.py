# ruff: noqa: E501 (word lists and patterns stay in one piece)
"""Keys and tokens that open somebody's account at a well-known service.

The prefixes are those that the providers document for secret scanning. The stretch found is what
follows the prefix, so that a replaced token still shows what it was.
"""

from __future__ import annotations

import regex

from twjax.corpus.personal.patterns import Found, Recognizer, before, recognizer

_KIND = "secret"
_URL_SAFE = r"[A-Za-z0-9_\-]"
_MASK = regex.compile(
    r"(?i)example|xxxx|\*{3}|your|placeholder|changeme|redacted|dummy|password|1234567890"
)
# GitHub, npm, Hugging Face, Stripe, DigitalOcean, Shopify, Grafana, Groq, Notion, Linear, Figma,
# Replicate, Docker, Supabase, RubyGems, Netlify, PlanetScale, Sentry, Doppler, Vercel, Fly, Razorpay.
_LOW_LINE = (
    r"gh[pousr]|github_pat|npm|hf|[srp]k_(?:live|test)|whsec|do[opr]_v1|shp(?:at|ca|pa|ss)|glc|glsa|gsk|ntn|secret|lin_api|figd|r8|dckr_pat"
    r"|sb[ps]|rubygems|nfp|pscale_(?:tkn|pw|oauth)|sntry[su]|dp_pt|vercel|fo1|rzp_(?:live|test)|tskey|api|pat|EZ[AT]K|ops|cio|sbp"
)
# OpenAI and Anthropic, Slack, GitLab, PyPI, Google OAuth, Square, Postman, Mailgun, Perplexity,
# xAI, Tavily, New Relic, Brevo, Age, Tailscale.
_DASH = r"sk|xox[abeoprs]|xapp|gl(?:pat|dt|rt|ptt|ft|soat|agent|cbt)|pypi|GOCSPX|sq0(?:atp|csp)|PMAK|key|pplx|xai|tvly|NRAK|NRJS|xkeysib|AGE-SECRET-KEY|tskey(?:-[a-z]{3,6})?|lsv2_[a-z]{2}|phc|sq0idp"
# Ends of names that say what follows, and what has to stand before them; 公鑰, hashes and
# keyboards have other names.
_NAMES = {
    **{
        w: r"(?<=(?i:api|access|secret|auth|account|private|service)[_\- ]?[Kk]ey)" for w in ("ey",)
    },
    **{w: r"(?<=(?:API|ACCESS|SECRET|AUTH|ACCOUNT|PRIVATE|SERVICE)[_\- ]?KEY)" for w in ("EY",)},
    **dict.fromkeys(("ecret", "ECRET", "oken", "OKEN", "assword", "ASSWORD", "earer"), ""),
    **dict.fromkeys(("金鑰", "密鑰", "憑證", "權杖", "密碼"), ""),
}
# Twilio, Databricks, Meta, Atlassian, JFrog and NuGet, without a mark after the prefix.
_BARE = ("SK", "AC", "dapi", "EAA", "ATATT3x", "ATCTT3x", "AKCp", "oy2")
# HashiCorp's Vault and Terraform, Doppler, Dropbox.
_DOTTED = ("hvs.", "hvb.", "hvr.", ".atlasv1.", "dp.pt.", "sl.")


def recognizers() -> list[Recognizer]:
    """Returns the recognizers of keys and tokens."""
    end = rf"(?!{_URL_SAFE})"
    named = r"[\"']?\s{0,3}(?:[:=]|=>)\s{0,3}[\"']?(?P<b>[A-Za-z0-9/+]{40}+)(?![A-Za-z0-9/+])"
    low_line = rf"_(?<=(?<![A-Za-z0-9_])(?:{_LOW_LINE})_)(?P<b>[A-Za-z0-9_]{{20,255}}+)"
    dash = rf"\-(?<=(?<![A-Za-z0-9_\-])(?:{_DASH})\-)(?P<b>{_URL_SAFE}{{20,400}}+)"
    aws = r"A[KS]IA(?<![A-Za-z0-9]A.IA)(?P<b>[A-Z2-7]{16}+)(?![A-Za-z0-9])"
    telegram = rf":AA(?<=(?<![0-9])[0-9]{{8,10}}:AA)(?P<b>{_URL_SAFE}{{33}}+){end}"
    # RFC 7519.
    web_token = (
        rf"eyJ(?<!{_URL_SAFE}eyJ)(?P<b>{_URL_SAFE}{{8,4000}}+\.eyJ{_URL_SAFE}{{8,8000}}+"
        rf"\.{_URL_SAFE}{{8,2000}}+)"
    )
    private_key = (
        r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----(?P<b>[^\-\0]{16,20000}+)"
    )
    slack_hook = (
        r"hooks\.slack\.com/services/"
        r"(?P<b>T[A-Za-z0-9]{6,20}+/B[A-Za-z0-9]{6,20}+/[A-Za-z0-9]{16,40}+)"
    )
    discord_hook = r"discord(?:app)?\.com/api/webhooks/(?P<b>[0-9]{17,20}+/[A-Za-z0-9_\-]{60,80}+)"
    # Channel access tokens of LINE and others without a prefix, but named and very long.
    long_token = (
        r"[\"']?\s{0,3}(?:[:：=]|=>)\s{0,3}[\"']?"
        r"(?P<b>[A-Za-z0-9/+]{100,400}+={0,2})(?![A-Za-z0-9/+])"
    )
    named_token = (
        r"[\"'」』]?\s{0,3}(?:[:：=]|=>|是|為)?\s{0,3}[\"'「『]?"
        r"(?P<b>[A-Za-z0-9_\-]{20,160}+)(?![A-Za-z0-9_\-(./])"
    )
    plain = r"(?P<b>[A-Za-z0-9_\-]{30,400}+)(?![A-Za-z0-9])"
    mailchimp = r"-us[0-9]{1,2}(?![0-9A-Za-z])(?<=(?<![0-9A-Za-z])(?P<b>[0-9a-f]{32})-us[0-9]{1,2})"
    discord_bot = r"(?<![A-Za-z0-9_\-.])(?P<b>[MNO][A-Za-z0-9_\-]{22,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,45})(?![A-Za-z0-9_\-])"
    dotted = r"(?P<b>[A-Za-z0-9_\-]{20,400}+)"
    password = (
        r"@(?=[A-Za-z0-9])"
        r"(?<=://[A-Za-z0-9._\-]{1,64}:(?P<b>[^\s/@:\"'<>\[\]{}$%\0]{3,128})@)"
    )
    random = (
        *(low_line, dash, r"ecret_?(?:[Aa]ccess_?)?[Kk]ey" + named),
        *(r"SECRET_(?:ACCESS_)?KEY" + named, telegram, "oken" + long_token, "OKEN" + long_token),
        # Google API keys and OAuth tokens, SendGrid.
        *(rf"AIza(?P<b>{_URL_SAFE}{{35}}+){end}", rf"ya29\.(?P<b>{_URL_SAFE}{{20,400}}+)"),
        *(word + left + named_token for word, left in _NAMES.items()),
        *(rf"{word}(?<![A-Za-z0-9_\-]{word}){plain}" for word in _BARE),
        *(regex.escape(word) + dotted for word in _DOTTED),
        rf"SG\.(?P<b>{_URL_SAFE}{{16,32}}+\.{_URL_SAFE}{{16,64}}+)",
    )
    return [
        *(recognizer(_KIND, pattern, _mixed, "tokens") for pattern in random),
        *(
            recognizer(_KIND, pattern, _token, "tokens")
            for pattern in (
                aws,
                web_token,
                private_key,
                slack_hook,
                discord_hook,
                mailchimp,
                discord_bot,
            )
        ),
        recognizer(_KIND, password, _token),
    ]


def _token(text: str, match: regex.Match[str]) -> Found | None:
    body = match["b"]
    if _MASK.search(body) or len(set(body)) < 3 or body.isdigit():
        return None
    return Found(_KIND, *match.span("b"), body)


def _mixed(text: str, match: regex.Match[str]) -> Found | None:
    """Checks that a body is random letters and digits: sk-learn-some-long-name is none."""
    body = match["b"]
    digits = sum(c.isdigit() for c in body)
    capitals = sum(c.isupper() for c in body)
    words = regex.findall("[A-Za-z0-9]++", body)
    if len(set(body)) < 10 or max(map(len, words)) < 16:
        return None
    small = sum(c.islower() for c in body)
    if digits == 0 and (min(capitals, small) < 2 or before(text, match.start(), 2) == "sk"):
        return None
    if capitals < 2 and digits < 4:
        return None
    return _token(text, match)
