"""The page's style sheet: light and dark, phone to desktop, and paper."""

LIGHT = {
    "paper": "#ffffff", "ink": "#1c2330", "soft": "#566072", "rule": "#d7dce4", "panel": "#f4f6f9",
    "warn": "#8a4b00", "warnback": "#fff4e0",
    "k0": "#3b76b8", "k1": "#e08a1e", "k2": "#2f9e77", "k3": "#b5539c", "k4": "#c9503c",
    "k5": "#6a62c2", "k6": "#8a7a22", "k7": "#97a1b0",
}  # fmt: skip
DARK = {
    "paper": "#14181f", "ink": "#e4e8ee", "soft": "#a2adbd", "rule": "#343c49", "panel": "#1d232d",
    "warn": "#ffc978", "warnback": "#33270f",
    "k0": "#6ba6e6", "k1": "#f0a64a", "k2": "#55c49c", "k3": "#d884c4", "k4": "#ec8573",
    "k5": "#a09aed", "k6": "#c4b255", "k7": "#7b8698",
}  # fmt: skip


def style() -> str:
    """The whole style sheet."""
    fills = "".join(
        f".k{i}{{fill:var(--k{i})}}.b{i}{{background:var(--k{i})}}.s{i}{{stroke:var(--k{i})}}"
        for i in range(8)
    )
    inks = "".join(f".on{i}{{fill:var(--on)}}" for i in range(8))
    return (
        f":root{{color-scheme:light dark;--on:#ffffff;{_colours(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{--on:#10141a;{_colours(DARK)}}}}}"
        f"@media print{{:root{{color-scheme:light;--on:#ffffff;{_colours(LIGHT)}}}}}"
        f"{_BASE}{fills}{inks}{_NARROW}{_PRINT}"
    )


def _colours(palette: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in palette.items())


_BASE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0 .6rem}
h2{font-size:1.2rem;margin:2rem 0 .5rem;padding-top:.6rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;font-weight:600;margin:1rem 0 .3rem}
p{margin:.4rem 0 .8rem}
.lead{font-size:1.1rem}
.soft{color:var(--soft)}
.note{background:var(--warnback);color:var(--warn);border-left:4px solid currentColor;padding:.5rem .8rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.5rem 0}
dt{color:var(--soft)}dd{margin:0}
pre,code{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:.85rem}
pre{background:var(--panel);border:1px solid var(--rule);border-radius:4px;padding:.6rem .8rem;margin:.5rem 0;
white-space:pre-wrap}
figure{margin:.3rem 0 .6rem}
svg{display:block;width:100%;height:auto}
svg text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.label{fill:var(--soft)}.title{fill:var(--ink)}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.band{fill:var(--panel)}.hollow{fill:none;stroke-width:2}
.narrow{display:none}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:.4rem 0;padding:0}
.swatch{display:inline-block;width:.8em;height:.8em;margin-right:.45em;border-radius:2px;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
table{border-collapse:collapse;width:100%;font-size:.9rem;margin:.4rem 0}
th{text-align:left;font-weight:600;color:var(--soft);border-bottom:2px solid var(--rule)}
th,td{padding:.25rem .9rem .25rem 0;vertical-align:top}
td{border-bottom:1px solid var(--rule)}
th:last-child,td:last-child{padding-right:0}
td.wide,th{min-width:4.5rem}
th{overflow-wrap:normal}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
th.n{white-space:normal}
footer{margin-top:2rem;color:var(--soft);font-size:.85rem}
"""

_NARROW = """
@media (max-width:600px){
.wide{display:none}.narrow{display:block}
dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}
table,tbody,tr,td{display:block;width:100%}
thead{display:none}
tr{border-bottom:2px solid var(--rule);padding:.35rem 0}
td,td.n{border:0;padding:.05rem 0;text-align:left;white-space:normal;display:flex;gap:.8rem}
td::before{content:attr(data-label);flex:0 0 7.5rem;color:var(--soft)}
td>*{min-width:0}
td[data-label=""]::before{display:none}
td[data-label=""]{font-weight:600}
td.wide{display:flex}
}
"""

_PRINT = """
@media print{
body{max-width:none;font-size:11pt;padding:0}
.wide{display:block}.narrow{display:none}
td.wide{display:table-cell}
h2,h3{break-after:avoid}
figure,.keep,tr,.note{break-inside:avoid}
svg *{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""
