"""A person at the chat page: a real Chromium, what it says, and everything its console complains of."""

import re
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, Locator, Page, Route, expect

from producers.local.processes import ROOT
from tests.e2e.site import Site

FOLDER = ROOT / "var" / "page"

#: What a browser says of a refused or failed request: expected where a test makes one.
_ANSWERS = re.compile(r"Failed to load resource|net::ERR_")


class Chat:
    """One open page."""

    def __init__(self, site: Site, url: str, page: Page) -> None:
        self.site, self.url, self.page = site, url, page
        self.complaints: list[str] = []
        self.posts: list[tuple[str, dict[str, Any]]] = []
        page.set_default_timeout(15_000)
        page.on("console", lambda told: self._note(told.type, told.text))
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda asked: self._count(asked.method, asked.url, asked.headers, asked.post_data_json))

    @classmethod
    async def open(cls, site: Site, url: str, context: BrowserContext) -> "Chat":
        """Open the page and wait until it can be used."""
        chat = cls(site, url, await context.new_page())
        await chat.page.goto(url)
        await chat.is_ready()
        return chat

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def _count(self, method: str, url: str, headers: dict[str, str], body: Any) -> None:
        if method == "POST" and url.endswith("/v1/jobs"):
            self.posts.append((headers.get("idempotency-key", ""), body))

    # -- what it shows -----------------------------------------------------------------------------------------------

    @property
    def send(self) -> Locator:
        """The button."""
        return self.page.get_by_role("button", name="Generate", exact=True)

    @property
    def prompt(self) -> Locator:
        """Where one writes."""
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def messages(self) -> Locator:
        """All messages, oldest first."""
        return self.page.get_by_role("list", name="Your jobs").locator(".message")

    def message(self, words: str) -> Locator:
        """The message in which this was asked."""
        return self.messages.filter(has_text=words)

    async def is_ready(self) -> None:
        """A workflow is chosen, events come, and the focus is on the button."""
        await expect(self.page.locator("#connection")).to_have_text("Live", timeout=15_000)
        await expect(self.send).to_be_enabled()

    async def ask(self, words: str, workflow: str = "SDXL Portrait") -> Locator:
        """Choose a workflow, write a prompt, send it."""
        await self.page.get_by_label("Workflow").select_option(label=workflow)
        await self.prompt.fill(words)
        await self.send.click()
        message = self.message(words)
        await expect(message).to_have_count(1)
        return message

    async def has(self, message: Locator, *states: str, seconds: float = 20.0) -> None:
        """Wait until a message has come to one of these states."""
        await expect(message).to_have_attribute("data-state", re.compile("|".join(states)), timeout=seconds * 1000)

    async def shows_picture(self, message: Locator, seconds: float = 20.0) -> None:
        """Wait until a picture of the result is there to be seen, not only its frame."""
        await self.has(message, "succeeded", seconds=seconds)
        image = message.locator(".picture:not(.loading) img").first
        await expect(image).to_be_visible()
        assert await image.evaluate("image => image.naturalWidth") > 0

    async def keep(self, name: str) -> None:
        """A screenshot for people, in `var/page/`."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=Path(FOLDER / f"{name}.png"), animations="disabled")

    # -- what goes wrong ---------------------------------------------------------------------------------------------

    async def lose_next_answer(self) -> None:
        """The next job arrives, and its answer does not."""

        async def lose(route: Route) -> None:
            await route.fetch()
            await route.abort()

        await self.page.route("**/v1/jobs", lose, times=1)

    def check(self, *, refusals: bool = False) -> None:
        """Nothing broke the policy and nothing threw. With `refusals` requests may have been refused or lost."""
        found = [text for text in self.complaints if not (refusals and _ANSWERS.search(text))]
        assert found == []
