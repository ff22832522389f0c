// Shows the answer of LightBagel Describe Image in a box at the node's foot. ComfyUI draws a node's text output by
// itself only for nodes of its own.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const TYPE = "LightBagelDescribe";

const boxOf = (node) => node.widgets?.find((widget) => widget.name === "answer");

// Of each box that an answer is being written into, what it held before.
const before = new Map();

const show = (node, output) => {
  const answer = boxOf(node);
  if (answer && output?.text) answer.value = [output.text].flat().join("\n");
};

// The node that an output belongs to, by its key: its id, behind that of the subgraph that it stands in or, in older
// pages, behind those of the nodes that subgraphs show as.
const nodeOf = (key) => {
  const path = key.split(":");
  const id = path.pop();
  const inside = (graph, part) => app.rootGraph.subgraphs?.get(part) ?? graph?.getNodeById(part)?.subgraph;
  return path.reduce(inside, app.rootGraph)?.getNodeById(id);
};

app.registerExtension({
  name: "LightBagel.Describe",
  setup() {
    // The words so far, while the answer is made.
    api.addEventListener("lightbagel.words", ({ detail }) => {
      const node = nodeOf(String(detail.node));
      if (node?.type !== TYPE) return;
      const box = boxOf(node);
      if (box && !before.has(box)) before.set(box, box.value ?? "");
      show(node, detail);
    });
    // The words of an answer that never ended look like one.
    for (const end of ["execution_interrupted", "execution_error"]) {
      api.addEventListener(end, () => {
        for (const [box, text] of before) box.value = text;
        before.clear();
      });
    }
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== TYPE) return;

    const { onNodeCreated, onExecuted } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function (...args) {
      onNodeCreated?.apply(this, args);
      const { widget } = app.widgets.STRING(this, "answer", ["STRING", { multiline: true }], app);
      widget.options.read_only = true;
      if (widget.element) widget.element.readOnly = true;
      // A result, not a setting: neither workflow files nor prompts hold it.
      widget.serialize = false;
      widget.options.serialize = false;
    };
    nodeType.prototype.onExecuted = function (output, ...args) {
      onExecuted?.call(this, output, ...args);
      before.delete(boxOf(this));
      show(this, output);
    };
  },
  // After a change of tab the nodes are made anew; the page then says again what they gave.
  onNodeOutputsUpdated(outputs) {
    for (const [key, output] of Object.entries(outputs)) {
      const node = nodeOf(key);
      if (node?.type === TYPE) show(node, output);
    }
  },
});
