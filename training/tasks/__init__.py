"""What models are trained for: losses, metrics and predictions, a file a task; `TASKS` names them all."""

from training.tasks.classification import Classification
from training.tasks.click import Click, EngagedClick
from training.tasks.multitask import EntireSpace, MultiLabel
from training.tasks.next_item import NextItem
from training.tasks.task import Task

__all__ = [
    "TASKS", "Classification", "Click", "EngagedClick", "EntireSpace", "MultiLabel", "NextItem", "Task",
]  # fmt: skip

# A new task is a file beside these and a line here; a model names its task.
TASKS: dict[str, Task] = {
    "click": Click(),
    "click_by_history": Click(lists=("history",)),
    "engaged_click": EngagedClick(lists=("history",)),
    "multi_label": MultiLabel(),
    "entire_space": EntireSpace(),
    "next_item": NextItem(),
    "next_item_in_batch": NextItem(sampled=False),
    "next_items": NextItem(every_position=True, kind="sequences"),
    "cover": Classification("covers"),
    "title": Classification("titles", lists=("words",)),
}
