// Shows the answer of LightBagel Describe Image in a box at the node's foot. ComfyUI draws a node's text output by
// itself only for nodes of its own.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

app.registerExtension({
  name: "LightBagel.Describe",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "LightBagelDescribe") return;

    const { onNodeCreated, onExecuted } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function (...args) {
      onNodeCreated?.apply(this, args);
      const { widget } = ComfyWidgets.STRING(this, "answer", ["STRING", { multiline: true }], app);
      widget.options.read_only = true;
      if (widget.element) widget.element.readOnly = true;
      // A result, not a setting: neither workflow files nor prompts hold it.
      widget.serialize = false;
      widget.options.serialize = false;
    };
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.call(this, output);
      const answer = this.widgets?.find((widget) => widget.name === "answer");
      if (answer && output?.text) answer.value = [output.text].flat().join("\n");
    };
  },
});
