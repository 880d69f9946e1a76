"""Search hyperparameters with Optuna: `python examples/sweep.py [trials]`.

Needs `pip install "rudder-gnn[sweeps]"`. Each trial is a run in its own folder, on local hosts.
"""

from __future__ import annotations

import sys

import optuna

import rudder


def objective(trial: optuna.Trial) -> float:
    summary = rudder.train(
        dataset="synthetic:tiny",
        epochs=2,
        hidden=trial.suggest_categorical("hidden", [16, 32]),
        lr=trial.suggest_float("lr", 1e-3, 1e-1, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.6),
        checkpoint_every="none",
        memory="none",
        quiet=True,
    )
    accuracy = summary.evaluations[-1].scores[0].val
    assert accuracy is not None
    return accuracy


if __name__ == "__main__":
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    print(study.best_params, study.best_value)
