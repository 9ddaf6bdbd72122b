"""The page for people, operated as a user does.

With `E2E_SCREENSHOTS`, a directory, pictures of the page stay there.
"""

import os
from pathlib import Path

from .tab import Tab


class Page:
    """The page of a service, in a tab."""

    def __init__(self, tab: Tab, url: str) -> None:
        self.tab = tab
        self._url = url
        tab.open(url)

    def health(self) -> str:
        self.tab.wait_for("document.getElementById('health').dataset.state !== 'waiting'")
        return self.tab.evaluate("document.getElementById('health').textContent")

    def check(self, server: str) -> dict[str, list[str]]:
        """Findings of the check of a server name, by their state."""
        self.tab.fill("check-server", server)
        self.tab.click("#check button")
        return self.findings("check", 40)

    def call(self, server: str, token: str, within: float = 40) -> dict[str, list[str]]:
        """Findings of a test call with an access token, by their state."""
        self.tab.fill("call-server", server)
        self.tab.fill("call-token", token)
        self.tab.click("#call-start")
        return self.findings("call", within)

    def call_by_password(self, server: str, user: str, password: str) -> None:
        """Starts a test call with a login of the page's own."""
        self.tab.click("input[value=password]")
        self.tab.fill("call-server", server)
        self.tab.fill("call-user", user)
        self.tab.fill("call-password", password)
        self.tab.click("#call-start")

    def call_by_login_page(self, server: str) -> None:
        """Starts a test call with a login at the homeserver's login page."""
        self.tab.click("input[value=oauth]")
        self.tab.fill("call-server", server)
        self.tab.click("#call-start")

    def stop(self) -> dict[str, list[str]]:
        """Findings of a test call that is stopped once its tone is played."""
        self.wait_until_measuring()
        self.tab.click("#call-stop")
        return self.findings("call", 20)

    def wait_until_measuring(self) -> None:
        self.tab.wait_for("/Measuring/.test(document.getElementById('call-results').innerText)", 40)

    def text(self) -> str:
        return self.tab.evaluate("document.body.innerText")

    def picture(self, name: str) -> None:
        """Takes pictures of the page as it is now, on a phone and on a desk, dark and light, where they are wanted."""
        if (directory := os.environ.get("E2E_SCREENSHOTS")) is None:
            return
        for device, width in (("phone", 390), ("desk", 1280)):
            for scheme in ("light", "dark"):
                self.tab.resize(width, 850, scheme == "dark")
                self.tab.screenshot(Path(directory) / f"{name}-{device}-{scheme}.png")
        self.tab.resize(1280, 900)

    def assert_accessible(self) -> None:
        """Asserts that axe-core finds nothing and nothing scrolls sideways, on a phone and on a desk, dark and light."""
        self.tab.evaluate(AXE.read_text())
        for width in (390, 1280):
            for dark in (False, True):
                self.tab.resize(width, 900, dark)
                violations = self.tab.evaluate(
                    "axe.run().then(it => it.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
                )
                assert violations == []
                assert self.tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                    "it scrolls sideways"
                )

    def findings(self, which: str, within: float) -> dict[str, list[str]]:
        self.tab.wait_for(f"document.getElementById('{which}-results').dataset.done", within)
        found = self.tab.evaluate(
            f"[...document.querySelectorAll('#{which}-results li')].map(it => [it.dataset.state, it.innerText])"
        )
        states: dict[str, list[str]] = {"fine": [], "warning": [], "problem": []}
        for state, text in found:
            states[state].append(text)
        return states


AXE = Path(__file__).parents[1] / "node_modules/axe-core/axe.min.js"
MARKUP = "<img src=x onerror='window.injected=1'><script>window.injected=2</script>\"'`"
