// TensorBoard in a tab: over a folder of the file browser or the results of a job. The page in it starts it
// (mlmp_spawner/lab/desk/tensorboard.py), or says why not.
import { ILayoutRestorer, JupyterFrontEnd } from "@jupyterlab/application";
import { ICommandPalette, MainAreaWidget, WidgetTracker } from "@jupyterlab/apputils";
import { PageConfig, URLExt } from "@jupyterlab/coreutils";
import { IDefaultFileBrowser, IFileBrowserFactory } from "@jupyterlab/filebrowser";
import { IFrame, LabIcon } from "@jupyterlab/ui-components";

export const TENSORBOARD = "mlmp:tensorboard";

const icon = new LabIcon({
  name: "mlmp:tensorboard",
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-width="2">' +
    '<path class="jp-icon3-stroke" stroke="#616161" d="M4 3v17h17"/>' +
    '<path class="jp-icon-warn0-stroke" stroke="#f37726" d="M7 6c1 8 5 10 13 10"/></svg>',
});

class Board extends MainAreaWidget<IFrame> {
  constructor(readonly query: string, name: string, wait: boolean) {
    const content = new IFrame({
      referrerPolicy: "same-origin", // without HTTPS nothing else says that it was JupyterLab that asked
      sandbox: ["allow-same-origin", "allow-scripts", "allow-forms", "allow-modals", "allow-popups", "allow-downloads"],
    });
    super({ content });
    const theme = document.body.dataset.jpThemeLight === "false" ? "dark" : "light";
    const page = URLExt.join(PageConfig.getBaseUrl(), "mlmp/tensorboard");
    content.url = `${page}?${query}&theme=${theme}${wait ? "&wait=1" : ""}`;
    content.node.querySelector("iframe")!.title = `TensorBoard of ${name}`;
    this.id = `mlmp-tensorboard-${encodeURIComponent(query)}`;
    this.title.label = `TensorBoard: ${name}`;
    this.title.caption = `TensorBoard of ${name}`;
    this.title.icon = icon;
    this.title.closable = true;
  }
}

/** Puts it into the palette and the menu of folders. */
export function addTensorBoard(
  app: JupyterFrontEnd,
  palette: ICommandPalette | null,
  browsers: IFileBrowserFactory | null,
  files: IDefaultFileBrowser | null,
  restorer: ILayoutRestorer | null,
): void {
  const tracker = new WidgetTracker<Board>({ namespace: "mlmp-tensorboard" });
  const folder = (chosen: boolean): string => {
    const browser = browsers?.tracker.currentWidget ?? files;
    const path = (chosen ? [...(browser?.selectedItems() ?? [])][0]?.path : browser?.model.path) ?? "";
    return app.serviceManager.contents.localPath(path) || ".";
  };
  const asked = (args: any): { query: string; name: string } => {
    if (args.query) return { query: args.query, name: args.name };
    if (args.job) return { query: `job=${encodeURIComponent(args.job)}`, name: args.name };
    const path = folder(args.chosen === true);
    return { query: `path=${encodeURIComponent(path)}`, name: path === "." ? "all files" : path };
  };

  app.commands.addCommand(TENSORBOARD, {
    label: (args) => (args.chosen ? "Open in TensorBoard" : "TensorBoard of the Current Folder"),
    caption: "Curves, pictures and more of what programs wrote for TensorBoard",
    icon: (args) => (args.palette ? undefined : icon),
    execute: (args) => {
      const { query, name } = asked(args);
      const board = tracker.find((one) => one.query === query) ?? new Board(query, name, args.restored === true);
      if (!board.isAttached) {
        app.shell.add(board, "main");
        void tracker.add(board);
      }
      app.shell.activateById(board.id);
    },
  });
  palette?.addItem({ command: TENSORBOARD, category: "MLMP", args: { palette: true } });
  const selector = '.jp-DirListing-item[data-isdir="true"]';
  app.contextMenu.addItem({ command: TENSORBOARD, args: { chosen: true }, selector, rank: 3 });
  void restorer?.restore(tracker, {
    command: TENSORBOARD,
    // Not started by itself: who opens JupyterLab wants something else first.
    args: ({ query, title }) => ({ query, restored: true, name: title.label.replace("TensorBoard: ", "") }),
    name: (board) => board.query,
  });
}
