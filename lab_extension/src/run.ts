// Run as job: the open script or notebook, with the manifest and the command that say the same, both to be edited.
import { JupyterFrontEnd } from "@jupyterlab/application";
import { Dialog, ICommandPalette, Notification, showErrorMessage, ToolbarButton } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import { IDocumentManager } from "@jupyterlab/docmanager";
import { DocumentRegistry } from "@jupyterlab/docregistry";
import { IFileBrowserFactory } from "@jupyterlab/filebrowser";
import { runIcon } from "@jupyterlab/ui-components";
import { UUID } from "@lumino/coreutils";
import { DisposableDelegate, IDisposable } from "@lumino/disposable";
import { Widget } from "@lumino/widgets";
import { ask, Draft, isAway, Job } from "./api";
import { JobsPanel } from "./jobs";

const RUN = "mlmp:run-as-job";
const CANCEL = 0; // the place of its button
const PAUSE = 400; // ms after the last key before the other field is written
const ENDINGS = [".py", ".ipynb", ".sh"];

function canRun(path: string | undefined): path is string {
  return path !== undefined && ENDINGS.includes(PathExt.extname(path));
}

type Field = "command" | "manifest";

/** `body` is asked; what comes of it is shown in all fields but `from`. */
interface Change {
  body: Record<string, string>;
  from?: Field;
}

/** The fields of the dialog. What is written in one is said in the other. */
class Form extends Widget {
  private profile = document.createElement("select");
  private command = document.createElement("textarea");
  private manifest = document.createElement("textarea");
  private trouble = document.createElement("p");
  private folder = document.createElement("p");
  private draft: Draft;
  private waiting = 0;
  /** What was last written and is not in the other fields yet. */
  private open: Change | null = null;

  constructor(
    profiles: { name: string; title: string }[],
    draft: Draft,
  ) {
    super();
    this.addClass("mlmp-form");
    this.draft = draft;
    for (const { name, title } of profiles) this.profile.add(new Option(`${title} (${name})`, name));
    this.profile.className = "jp-mod-styled";
    this.command.rows = 3;
    this.manifest.rows = 9;
    for (const one of [this.command, this.manifest]) {
      one.className = "jp-mod-styled";
      one.spellcheck = false;
      one.addEventListener("keydown", (event) => event.key === "Enter" && event.stopPropagation()); // a line, not OK
    }
    this.trouble.className = "mlmp-trouble";
    this.trouble.setAttribute("role", "alert");
    this.node.append(
      labelled("Runs on", this.profile),
      labelled("Command, as in a terminal", this.command),
      labelled("Manifest", this.manifest),
      this.folder,
      this.trouble,
    );
    this.profile.addEventListener("change", () => {
      const { body } = this.open ?? this.written();
      this.change({ body: { ...body, profile: this.profile.value } }, 0);
    });
    this.command.addEventListener("input", () =>
      this.change({ body: { command: this.command.value }, from: "command" }, PAUSE),
    );
    this.manifest.addEventListener("input", () => this.change(this.written(), PAUSE));
    this.render(draft);
  }

  /** What is to be submitted, which is what is shown; null where it makes no sense, which is said. */
  async value(): Promise<Draft | null> {
    while (this.open) {
      const change = this.open;
      await this.follow();
      if (this.open === change) return null;
    }
    return { ...this.draft, manifest: this.manifest.value };
  }

  /** Says why not. */
  refuse(text: string): void {
    this.trouble.textContent = text;
  }

  private written(): Change {
    return { body: { manifest: this.manifest.value, folder: this.draft.folder }, from: "manifest" };
  }

  private change(change: Change, pause: number): void {
    this.open = change;
    window.clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => void this.follow(), pause);
  }

  /** Brings the other fields up to date. */
  private async follow(): Promise<void> {
    const change = this.open;
    window.clearTimeout(this.waiting);
    if (!change) return;
    try {
      const draft = await ask<Draft>("drafts", "POST", change.body);
      if (change !== this.open) return;
      this.open = null;
      this.render(draft, change.from);
    } catch (error) {
      if (change === this.open) this.refuse((error as Error).message);
    }
  }

  private render(draft: Draft, from?: Field): void {
    this.draft = draft;
    this.trouble.textContent = "";
    this.profile.value = draft.profile;
    if (from !== "command") this.command.value = draft.command ?? "";
    this.command.placeholder = draft.command === null ? "No command says all of this: mlmp job submit FILE" : "";
    if (from !== "manifest") this.manifest.value = draft.manifest;
    const folder = draft.folder === "." ? "your home" : `${draft.folder}/`;
    this.folder.textContent = `The files in ${folder} are sent along as they are now.`;
  }
}

function labelled(text: string, field: HTMLElement): HTMLLabelElement {
  const label = document.createElement("label");
  label.append(text, field);
  return label;
}

class Asking extends Dialog<unknown> {
  private made: Job | null = null;
  private sent = { key: "", text: "" };
  private busy = false;

  constructor(
    private form: Form,
    name: string,
  ) {
    super({
      title: `Run ${name} as a job`,
      body: form,
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: "Submit" })],
    });
  }

  /** The job; null where somebody left it. */
  async submitted(): Promise<Job | null> {
    await this.launch();
    return this.made;
  }

  /** Submit closes it only once the job is there. */
  resolve(index?: number): void {
    if (index === CANCEL) return super.resolve(index);
    if (this.busy) return;
    this.busy = true;
    void this.submit().then((done) => {
      this.busy = false;
      if (done) super.resolve(index);
    });
  }

  /** Whose answer is lost may be there: sent again under the same key, it is there once. */
  private named({ manifest, folder }: Draft): Record<string, string> {
    const text = JSON.stringify([manifest, folder]);
    if (text !== this.sent.text) this.sent = { key: UUID.uuid4(), text };
    return { manifest, folder, key: this.sent.key };
  }

  private async submit(): Promise<boolean> {
    this.form.refuse("");
    const draft = await this.form.value();
    if (!draft) return false;
    try {
      this.made = await ask<Job>("jobs", "POST", this.named(draft));
      return true;
    } catch (error) {
      if (!isAway(error)) this.sent.text = "";
      this.form.refuse((error as Error).message);
      return false;
    }
  }
}

/** The whole way for one file. */
async function run(path: string, panel: JobsPanel, app: JupyterFrontEnd): Promise<void> {
  let form: Form;
  try {
    const { items } = await ask<{ items: { name: string; title: string }[] }>("profiles");
    if (!items.length) throw new Error("There is no profile that you may use.");
    const draft = await ask<Draft>("drafts", "POST", { path, profile: items[0].name });
    form = new Form(items, draft);
  } catch (error) {
    await showErrorMessage("No job can be made of it", (error as Error).message);
    return;
  }
  const made = await new Asking(form, PathExt.basename(path)).submitted();
  if (!made) return;
  Notification.success(`Submitted ${made.name}. ${made.why}`, { autoClose: 5000 });
  app.shell.activateById(panel.id);
  await panel.open(made.id);
}

/** Puts it into the palette, the menus of files and of documents, and the toolbars of scripts and notebooks. */
export function addRun(
  app: JupyterFrontEnd,
  documents: IDocumentManager,
  palette: ICommandPalette | null,
  browsers: IFileBrowserFactory | null,
  panel: JobsPanel,
): void {
  const context = (): DocumentRegistry.Context | undefined =>
    app.shell.currentWidget ? documents.contextForWidget(app.shell.currentWidget) : undefined;
  const chosen = (): string | undefined => [...(browsers?.tracker.currentWidget?.selectedItems() ?? [])][0]?.path;
  const path = (args: any): string | undefined => args.path ?? (args.chosen ? chosen() : context()?.path);

  app.commands.addCommand(RUN, {
    label: "Run as Job",
    caption: "Run this script or notebook as a job, when something is free",
    icon: (args) => (args.palette ? undefined : runIcon),
    isEnabled: (args) => canRun(path(args)),
    isVisible: (args) => !args.chosen || canRun(path(args)),
    execute: async (args) => {
      const file = path(args);
      if (!canRun(file)) return;
      const local = documents.services.contents.localPath(file);
      const open = documents.findWidget(file);
      const document = open && documents.contextForWidget(open);
      if (document?.model.dirty) await document.save(); // what is seen is what runs
      await run(local, panel, app);
    },
  });
  palette?.addItem({ command: RUN, category: "MLMP", args: { palette: true } });
  app.shell.currentChanged?.connect(() => app.commands.notifyCommandChanged(RUN));
  app.contextMenu.addItem({ command: RUN, args: { chosen: true }, selector: ".jp-DirListing-item", rank: 4 });
  for (const selector of [".jp-FileEditor", ".jp-Notebook"]) {
    app.contextMenu.addItem({ command: RUN, selector, rank: 20 });
  }
  for (const factory of ["Editor", "Notebook"]) app.docRegistry.addWidgetExtension(factory, new Button(app));
}

class Button implements DocumentRegistry.WidgetExtension {
  constructor(private app: JupyterFrontEnd) {}

  createNew(widget: any, context: DocumentRegistry.Context): IDisposable {
    if (!canRun(context.path)) return new DisposableDelegate(() => undefined);
    const button = new ToolbarButton({
      label: "Run as Job",
      tooltip: "Run this as a job, when something is free",
      onClick: () => void this.app.commands.execute(RUN, { path: context.path }),
    });
    widget.toolbar.addItem("mlmp-run-as-job", button);
    return button;
  }
}
