// The panel of one's jobs in the side bar: how each is, what it prints and measures, live.
import { ILayoutRestorer, JupyterFrontEnd } from "@jupyterlab/application";
import { Dialog, ICommandPalette, showDialog, showErrorMessage } from "@jupyterlab/apputils";
import { runIcon } from "@jupyterlab/ui-components";
import { CommandRegistry } from "@lumino/commands";
import { Poll } from "@lumino/polling";
import { Widget } from "@lumino/widgets";
import { ask, isAway, Job, Refused, Series } from "./api";
import { Log } from "./log";
import { plots } from "./plots";
import { TENSORBOARD } from "./tensorboard";

const JOBS = "mlmp:jobs";
const EVERY = 2000;
const LONGEST_PAUSE = 30_000;

/** How a job is, in words. */
function state(job: Job): string {
  return job.outcome ?? job.state;
}

export class JobsPanel extends Widget {
  private rows = new Map<string, Row>();
  private trouble = document.createElement("p");
  private empty = document.createElement("p");
  private list = document.createElement("ul");
  private poll: Poll;

  constructor(private commands: CommandRegistry) {
    super();
    this.id = "mlmp-jobs";
    this.addClass("mlmp-jobs");
    this.title.icon = runIcon;
    this.title.caption = "Jobs (MLMP)";
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", "Jobs");
    this.trouble.className = "mlmp-trouble";
    this.trouble.setAttribute("role", "status");
    this.empty.textContent =
      "You have no jobs. Open a script or a notebook and choose Run as Job: it runs when something is free, also " +
      "after this server has ended.";
    this.empty.hidden = true;
    this.node.append(this.trouble, this.empty, this.list);
    this.poll = new Poll({
      name: "mlmp:jobs",
      auto: false,
      factory: () => this.look(),
      frequency: { interval: EVERY, max: LONGEST_PAUSE, backoff: true },
      standby: () => !this.isVisible || document.hidden,
    });
  }

  /** Opens one of them. */
  async open(id: string): Promise<void> {
    await this.look().catch(() => undefined);
    this.rows.get(id)?.toggle(true);
  }

  protected onAfterShow(): void {
    void this.poll.start().then(() => this.poll.refresh());
  }

  protected onAfterAttach(): void {
    if (this.isVisible) this.onAfterShow();
  }

  private async look(): Promise<void> {
    try {
      const { items } = await ask<{ items: Job[] }>("jobs");
      this.render(items);
      await Promise.all([...this.rows.values()].map((row) => row.follow()));
      this.trouble.textContent = "";
    } catch (error) {
      this.trouble.textContent = isAway(error)
        ? "No connection to MLMP; trying again. What is shown may be old."
        : (error as Error).message;
      throw error; // for the back-off
    }
  }

  private render(jobs: Job[]): void {
    this.empty.hidden = jobs.length > 0;
    const there = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.rows) {
      if (!there.has(id)) {
        row.node.remove();
        this.rows.delete(id);
      }
    }
    jobs.forEach((job, place) => {
      const row = this.rows.get(job.id) ?? new Row(job, this.commands);
      this.rows.set(job.id, row);
      row.update(job);
      // Moved only where it is not in its place: what is moved loses focus.
      if (this.list.children[place] !== row.node) this.list.insertBefore(row.node, this.list.children[place] ?? null);
    });
  }
}

class Row {
  readonly node = document.createElement("li");
  private head = document.createElement("button");
  private name = document.createElement("span");
  private state = document.createElement("span");
  private body = document.createElement("div");
  private why = document.createElement("p");
  private trouble = document.createElement("p");
  private plots = document.createElement("div");
  private board = document.createElement("button");
  private cancel = document.createElement("button");
  private log: Log;
  private whole = false;

  constructor(
    private job: Job,
    commands: CommandRegistry,
  ) {
    this.log = new Log(job.id);
    this.node.className = "mlmp-job";
    this.node.dataset.job = job.id;
    this.head.type = "button";
    this.head.append(this.name, this.state);
    this.head.addEventListener("click", () => this.toggle(this.body.hidden));
    this.board.type = "button";
    this.board.className = "jp-mod-styled jp-mod-reject";
    this.board.textContent = "TensorBoard";
    this.board.addEventListener("click", () => void commands.execute(TENSORBOARD, { job: job.id, name: job.name }));
    this.cancel.type = "button";
    this.cancel.className = "jp-mod-styled jp-mod-reject";
    this.cancel.textContent = "Cancel the job";
    this.cancel.addEventListener("click", () => void this.end());
    this.body.hidden = true;
    this.body.id = `mlmp-job-${job.id}`;
    this.head.setAttribute("aria-controls", this.body.id);
    this.head.setAttribute("aria-expanded", "false");
    this.trouble.className = "mlmp-trouble";
    this.body.append(this.why, this.trouble, this.log.node, this.plots, this.board, this.cancel);
    this.node.append(this.head, this.body);
  }

  update(job: Job): void {
    if (job.state !== this.job.state || job.attempt !== this.job.attempt) this.whole = false;
    this.job = job;
    this.name.textContent = job.name;
    this.state.textContent = state(job);
    this.head.title = `${job.name}, ${state(job)}, on ${job.profile}`;
    this.why.textContent = job.state === "ended" ? job.message : job.why;
    this.why.hidden = !this.why.textContent;
    this.board.hidden = job.attempt === null;
    this.cancel.hidden = job.state === "ended" || job.state === "stopping";
  }

  toggle(open: boolean): void {
    this.body.hidden = !open;
    this.head.setAttribute("aria-expanded", String(open));
    if (open) void this.follow().catch(() => undefined);
  }

  /** Reads what is new, where it is open. */
  async follow(): Promise<void> {
    if (this.body.hidden || this.whole) return;
    const job = this.job;
    try {
      const all = await this.log.follow(job);
      if (job.attempt !== null) {
        const { series } = await ask<{ series: Record<string, Series> }>(`jobs/${job.id}/metrics`);
        this.plots.replaceChildren(...plots(series));
      }
      this.trouble.textContent = "";
      this.whole = all && job.state === "ended" && job === this.job;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.trouble.textContent = error.message; // of this job; the others are as they are
    }
  }

  private async end(): Promise<void> {
    const { button } = await showDialog({
      title: `Cancel ${this.job.name}?`,
      body: "What it has not saved is lost.",
      buttons: [Dialog.cancelButton({ label: "Let it run" }), Dialog.warnButton({ label: "Cancel the job" })],
    });
    if (!button.accept) return;
    try {
      this.update(await ask<Job>(`jobs/${this.job.id}`, "DELETE"));
    } catch (error) {
      await showErrorMessage("Not cancelled", (error as Error).message);
    }
  }
}

/** Puts the panel into the left side bar. */
export function addJobs(
  app: JupyterFrontEnd,
  palette: ICommandPalette | null,
  restorer: ILayoutRestorer | null,
): JobsPanel {
  const panel = new JobsPanel(app.commands);
  app.shell.add(panel, "left", { rank: 600 });
  restorer?.add(panel, "mlmp-jobs");
  app.commands.addCommand(JOBS, { label: "Show Jobs", execute: () => app.shell.activateById(panel.id) });
  palette?.addItem({ command: JOBS, category: "MLMP" });
  return panel;
}
