"""A run's state to and from its folder."""

from __future__ import annotations

from typing import Any

from align_dist.assembly import Assembly
from align_dist.errors import CheckpointError
from align_dist.files import remove
from align_dist.messages import Say
from align_dist.methods.base import Method
from align_dist.runs.checkpoint import load_checkpoint, refusing_other_networks, save_checkpoint
from align_dist.runs.folder import RunFolder
from align_dist.runs.metrics import forget_after
from align_dist.runs.position import Position, checkpoint_of, position_in
from align_dist.runs.selection import Best, Weights, restore_selected, weights_now, write_selected
from align_dist.training.validation import watches_targets


def save(run: Assembly, folder: RunFolder, position: Position) -> None:
    """Write the checkpoint, which makes the selections since the previous one valid, then the selections' files.
    Collective.
    """
    state = _state_of(run.method)

    def write() -> None:
        save_checkpoint(folder.checkpoints, checkpoint_of(run.config.identity, state, position))
        write_selected(folder.selected, {name: position.selected[name] for name in position.unwritten})
        position.unwritten.clear()

    run.group.run_on_first(write)


def finish(run: Assembly, folder: RunFolder, position: Position) -> None:
    """Keep the last weights, and record that the run is trained to its end. Collective."""
    last = weights_now(position.step, run.method.networks, run.group)

    def write() -> None:
        write_selected(folder.selected, {"last": last})
        folder.write_trained(position.step, {**position.selected_steps, "last": position.step})

    run.group.run_on_first(write)


def resume(run: Assembly, folder: RunFolder, say: Say) -> Position:
    """Load the newest usable checkpoint into the networks; the position where the run goes on. Rank 0 reads the file.

    Raises CheckpointError for a checkpoint of another run, or where none of those that exist is usable.
    """
    selected: dict[str, Weights] = {}  # for the rank that writes alone

    def read() -> dict[str, Any] | None:
        state = load_checkpoint(folder.checkpoints, say)
        if state is not None and state["identity"] != run.config.identity:
            raise CheckpointError(f"{folder.checkpoints}: of another run, {state['identity']}; delete {folder.path}")
        if state is None and folder.trained.exists():
            raise CheckpointError(
                f"{folder.checkpoints}: missing, and the run is trained to its end; measure its weights with "
                f"`align-dist evaluate {folder.path}`, or delete {folder.path} to train anew"
            )
        first_step = 0 if state is None else state["position"]["step"]
        selected.update(state.pop("selected") if state is not None else {})
        if _leaves_oracle(run, first_step):
            selected.pop("oracle", None)
        restore_selected(folder.selected, selected)
        if first_step < run.schedule.length:
            remove(folder.trained)  # of a newer checkpoint, which is gone
        forget_after(folder.metrics, first_step)
        folder.record_first_step(first_step)
        return state

    state = run.group.broadcast_from_first(read)
    if state is None:
        return Position()
    # A checkpoint that was branched off a shared warm-up names the networks that had not begun there.
    untouched = state.get("untouched", [])
    for name, engine in run.method.networks.items():
        if name not in untouched:
            with refusing_other_networks(folder.checkpoints, name):
                engine.load_state_dict(state["networks"][name])
    run.method.state |= {name: value.to(run.device) for name, value in state["method"].items()}
    position = position_in(state, selected)
    if _leaves_oracle(run, position.step):
        position.oracle = Best()
    say(f"{folder.path}: resuming at step {position.step} of {run.schedule.length}")
    return position


def _leaves_oracle(run: Assembly, step: int) -> bool:
    """Return whether the oracle of earlier starts goes: from `step` on it would choose no more, and be the best of a
    part of the run.
    """
    return step < run.schedule.length and not watches_targets(run)


def _state_of(method: Method[Any]) -> dict[str, Any]:
    """A method's part of a checkpoint: `networks`, engines' state dicts by name, and `method`. Collective."""
    networks = {name: engine.state_dict() for name, engine in method.networks.items()}
    return {"networks": networks, "method": {name: value.cpu() for name, value in method.state.items()}}
