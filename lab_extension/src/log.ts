// The log of a job, as far as it is and as it grows.
import { ask, Job, LogPart } from "./api";

const KEPT = 200_000; // characters: the end of a log is what is looked at
const AT_ONCE = 4; // parts, so that a long log does not keep the rest waiting

// Colours and moves of the cursor.
const ESCAPES = /\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;

/** As a terminal shows it, without colours: of a line that was written over, its last form. */
export function plain(text: string): string {
  return text
    .replace(ESCAPES, "")
    .split("\n")
    .map((line) => line.replace(/\r+$/, "").replace(/^[^]*\r/, ""))
    .join("\n");
}

export class Log {
  readonly node = document.createElement("pre");
  private text = "";
  private end = 0;
  private attempt: number | null = null;

  constructor(private id: string) {
    this.node.className = "mlmp-log";
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "log");
    this.node.setAttribute("aria-label", "What it prints");
    this.node.textContent = "Nothing was printed yet.";
  }

  /** Reads what is new; whether all of it is here. @throws Refused, Away */
  async follow(job: Job): Promise<boolean> {
    if (job.attempt === null) return job.state === "ended";
    if (job.attempt !== this.attempt) {
      this.attempt = job.attempt;
      this.end = 0;
      this.text = "";
    }
    for (let part = 0; part < AT_ONCE; part++) {
      const found = await ask<LogPart>(`jobs/${this.id}/log?start=${this.end}&attempt=${this.attempt}`);
      if (found.text) this.add(found.text);
      this.end = found.end;
      if (found.end >= found.size || !found.text) return true;
    }
    return false;
  }

  private add(text: string): void {
    this.text = (this.text + text).slice(-KEPT);
    const { scrollTop, scrollHeight, clientHeight } = this.node;
    const below = scrollTop + clientHeight >= scrollHeight - 4; // whoever has scrolled up stays there
    this.node.textContent = plain(this.text);
    if (below) this.node.scrollTop = this.node.scrollHeight;
  }
}
