"""What people do in the browser, in their words."""

from __future__ import annotations

import json
from datetime import datetime

from playwright.sync_api import Page, expect

MLMP = "services/mlmp/"

RUN = """async ([base, code]) => {
  const xsrf = document.cookie.split("; ").find((one) => one.startsWith("_xsrf="))?.slice(6);
  const headers = {"Content-Type": "application/json", "X-XSRFToken": xsrf};
  const answer = await fetch(`${base}api/kernels`, {method: "POST", headers, body: "{}"});
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  const {id} = await answer.json();
  const socket = new WebSocket(`${base.replace(/^http/, "ws")}api/kernels/${id}/channels`);
  await new Promise((yes, no) => { socket.onopen = yes; socket.onerror = no; });
  const header = {msg_id: "ask", session: "s", username: "u", msg_type: "execute_request", version: "5.3", date: ""};
  const content = {code, silent: false, store_history: false, user_expressions: {}, allow_stdin: false};
  socket.send(JSON.stringify({header, parent_header: {}, metadata: {}, content, channel: "shell"}));
  let text = "";
  await new Promise((yes) => {
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.parent_header.msg_id !== "ask") return;
      if (message.msg_type === "stream") text += message.content.text;
      if (message.msg_type === "status" && message.content.execution_state === "idle") yes();
    };
  });
  socket.close();
  return text;
}"""


class Human:
    """Somebody with a browser, logged in at a site."""

    def __init__(self, page: Page, url: str, name: str, *, password: str = "any", script: bool = True) -> None:
        self.page, self.url, self.name = page, url, name
        page.goto(f"{url}hub/login")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(password)
        if not script:  # the hub's own form asks for a script before it can be pressed
            page.locator("#login_submit").evaluate("button => { button.disabled = false; }")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)

    def go(self, path: str = "") -> Page:
        """Opens a page of MLMP."""
        self.page.goto(f"{self.url}{MLMP}{path}")
        return self.page

    def say(self, **sentence: str) -> None:
        """Fills in Book's sentence."""
        for field, value in sentence.items():
            control = self.page.locator(f"#sentence [name={field}]")
            if field == "at":
                control.fill(value)
            else:
                control.select_option(value)
            expect(self.page.locator("#mlmp")).not_to_have_attribute("aria-busy", "true")

    def book(self) -> None:
        """Presses what the sentence leads to."""
        self.page.locator("#book").click()

    def start(self) -> None:
        """Starts the current booking; waits for JupyterLab."""
        self.page.get_by_role("button", name="Start", exact=True).click()
        self.wait_for_lab()

    def work(self, *, duration: str) -> None:
        """Books from now on and starts at once; waits for JupyterLab."""
        self.go("book")
        self.say(duration=duration)
        self.book()
        self.start()

    def wait_for_lab(self) -> None:
        """Waits until JupyterLab is there to be worked with."""
        self.page.wait_for_url(f"**/user/{self.name}/**lab**", timeout=90_000)
        expect(self.page.locator("#jp-main-dock-panel")).to_be_visible(timeout=60_000)

    def run(self, code: str) -> str:
        """Runs Python in a kernel of the person's server."""
        base = self.page.url.partition("/lab")[0] + "/"
        return str(self.page.evaluate(RUN, [base, code])).strip()

    def devices(self) -> set[str]:
        """The units that the server may use."""
        text = self.run("import os, json; print(json.dumps(os.environ['CUDA_VISIBLE_DEVICES']))")
        return set(json.loads(text).split(","))

    def times(self, selector: str) -> list[float]:
        """The instants that are shown there, in seconds since the epoch."""
        found = self.page.locator(f"{selector} time").evaluate_all("all => all.map((one) => one.dateTime)")
        return [datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in found]
