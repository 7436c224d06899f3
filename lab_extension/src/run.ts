// Run as job: the open script or notebook, with the manifest and the command that say the same, both to be edited.
import { JupyterFrontEnd } from "@jupyterlab/application";
import { Dialog, ICommandPalette, Notification, showErrorMessage, ToolbarButton } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import { IDocumentManager } from "@jupyterlab/docmanager";
import { DocumentRegistry } from "@jupyterlab/docregistry";
import { IFileBrowserFactory } from "@jupyterlab/filebrowser";
import { runIcon } from "@jupyterlab/ui-components";
import { DisposableDelegate, IDisposable } from "@lumino/disposable";
import { Widget } from "@lumino/widgets";
import { ask, Draft, Job } from "./api";
import { JobsPanel } from "./jobs";

const RUN = "mlmp:run-as-job";
const CANCEL = 0; // the place of its button
const PAUSE = 400; // ms after the last key before the other field is written
const ENDINGS = [".py", ".ipynb", ".sh"];

function canRun(path: string | undefined): path is string {
  return path !== undefined && ENDINGS.includes(PathExt.extname(path));
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
  private asked = 0;
  /** What was last typed and is not in the other field yet. */
  private open: (() => Promise<void>) | null = null;

  constructor(
    private path: string,
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
    this.profile.addEventListener("change", () => void this.redo({ path: this.path, profile: this.profile.value }));
    this.command.addEventListener("input", () => this.later(() => this.redo({ command: this.command.value }, "command")));
    this.manifest.addEventListener("input", () =>
      this.later(() => this.redo({ manifest: this.manifest.value, folder: this.draft.folder }, "manifest")),
    );
    this.render(draft);
  }

  /** What is to be submitted; null where it makes no sense, which is said. */
  async value(): Promise<Draft | null> {
    window.clearTimeout(this.waiting);
    if (this.open) await this.open();
    return this.trouble.textContent ? null : { ...this.draft, manifest: this.manifest.value };
  }

  /** Says why not. */
  refuse(text: string): void {
    this.trouble.textContent = text;
  }

  private later(act: () => Promise<void>): void {
    window.clearTimeout(this.waiting);
    this.open = act;
    this.waiting = window.setTimeout(() => void act(), PAUSE);
  }

  private async redo(body: Record<string, string>, from?: "command" | "manifest"): Promise<void> {
    this.open = null;
    const turn = ++this.asked;
    try {
      const draft = await ask<Draft>("drafts", "POST", body);
      if (turn === this.asked) this.render(draft, from);
    } catch (error) {
      if (turn === this.asked) this.trouble.textContent = (error as Error).message;
    }
  }

  private render(draft: Draft, from?: "command" | "manifest"): void {
    this.draft = draft;
    this.trouble.textContent = "";
    if (from !== "command") this.command.value = draft.command ?? "";
    this.command.placeholder = draft.command === null ? "No command says all of this: mlmp job submit FILE" : "";
    if (from !== "manifest") this.manifest.value = draft.manifest;
    const folder = draft.folder === "." ? "your home" : draft.folder;
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

  private async submit(): Promise<boolean> {
    const draft = await this.form.value();
    if (!draft) return false;
    try {
      const { manifest, folder } = draft;
      this.made = await ask<Job>("jobs", "POST", { manifest, folder });
      return true;
    } catch (error) {
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
    form = new Form(path, items, draft);
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
