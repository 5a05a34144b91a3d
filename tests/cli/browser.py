"""Headless Chromium for the pages' tests: what it makes of a page at a width, in a theme."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip

# Runs in the page: what sticks out, which texts overlap, what was loaded, and how it looks.
PROBE = """
<script>
function box(e){const r=e.getBoundingClientRect();return [r.left,r.top,r.right,r.bottom]}
window.addEventListener('load',()=>{
const html=document.documentElement, width=html.clientWidth, out={width:width,scroll:html.scrollWidth};
const seen=[...document.querySelectorAll('body *')].filter(e=>e.getClientRects().length);
out.wide=seen.filter(e=>{const b=box(e);return b[2]>width+0.5||b[0]<-0.5})
 .map(e=>e.tagName+' '+e.textContent.slice(0,40));
const texts=seen.filter(e=>e.tagName=='text');
out.texts=texts.length;
out.overlaps=[];
for(const svg of seen.filter(e=>e.tagName=='svg')){
 const t=[...svg.querySelectorAll('text')];const s=box(svg);
 for(const e of t){const b=box(e);if(b[0]<s[0]-1||b[2]>s[2]+1)out.overlaps.push('outside: '+e.textContent)}
 for(let i=0;i<t.length;i++)for(let j=i+1;j<t.length;j++){const a=box(t[i]),b=box(t[j]);
  if(Math.min(a[2],b[2])-Math.max(a[0],b[0])>1&&Math.min(a[3],b[3])-Math.max(a[1],b[1])>3)
   out.overlaps.push(t[i].textContent+' / '+t[j].textContent)}}
out.small=texts.filter(e=>e.getBoundingClientRect().height<11).map(e=>e.textContent);
const blocks=[...document.querySelectorAll('h1,h2,h3,p,table,figure,dl,pre,ul')]
 .filter(e=>e.getClientRects().length);
out.stacked=[];
for(let i=1;i<blocks.length;i++){const [p,e]=[blocks[i-1],blocks[i]];
 if(!p.contains(e)&&box(e)[1]<box(p)[3]-1)
  out.stacked.push(p.textContent.slice(0,30)+' / '+e.textContent.slice(0,30))}
out.loaded=performance.getEntriesByType('resource').map(e=>e.name);
out.paper=getComputedStyle(document.body).backgroundColor;out.ink=getComputedStyle(document.body).color;
parent.document.body.setAttribute('data-probe',JSON.stringify(out))})
</script>
"""


def chromium() -> str:
    """The browser's path; skips the test, with the reason, where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium to look at pages: not installed (apt-get install chromium)")
    return path


def browse(folder: Path, *arguments: str) -> str:
    """Run the browser with a profile of its own; what it prints."""
    command = [chromium(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def probe(page: str, folder: Path, width: int, dark: bool) -> dict[str, Any]:
    """What the browser makes of `page`, `width` pixels wide: in a frame, because a window of this browser is
    at least 500 wide. The page's own policy forbids every script, so that it is taken out of this copy;
    nothing else is changed."""
    bare, removed = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert removed == 1
    probed = escape(bare.replace("</head>", PROBE + "</head>"))
    frame = f'<iframe srcdoc="{probed}" style="border:0;width:{width}px;height:1600px"></iframe>'
    file = folder / "probed.html"
    file.write_text(f'<!DOCTYPE html><html><body style="margin:0">{frame}</body></html>', encoding="utf-8")
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    dom = browse(folder, f"--window-size={width + 100},1700", *theme, "--dump-dom", file.as_uri())
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found, f"the probe did not run: {dom[:500]}"
    told: dict[str, Any] = json.loads(unescape(found[1]))
    return told
