"""Temporal sparse autoencoders on language models. The names below are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .activations import ActivationBatch as ActivationBatch, ActivationStream as ActivationStream
    from .activations import open_stream as open_stream
    from .comparison import compare as compare
    from .complete_runs import evaluate_again as evaluate_again, export_run as export_run
    from .config import ConfigError as ConfigError, RunConfig as RunConfig, SAEConfig as SAEConfig
    from .config import UserError as UserError
    from .evaluation.metrics import evaluate as evaluate
    from .evaluation.unlearning import UnlearningResult as UnlearningResult, UnlearningTask as UnlearningTask
    from .executors import sweep as sweep
    from .experiments import expand as expand, load_experiment as load_experiment
    from .interop import export_sae as export_sae, import_sae as import_sae
    from .language_model import LanguageModel as LanguageModel
    from .run_folders import find_runs as find_runs, open_run as open_run
    from .runs import execute as execute, launch as launch
    from .sae import SparseAutoencoder as SparseAutoencoder, load_sae as load_sae, save_sae as save_sae
    from .sources import open_source as open_source
    from .stored_activations import StoredActivations as StoredActivations
    from .training import read_metrics as read_metrics, train as train
    from .views.explorer import FeatureExplorer as FeatureExplorer
    from .views.feature_index import FeatureIndex as FeatureIndex
    from .views.figures import draw as draw, figure1 as figure1, figure2 as figure2, figure4 as figure4
    from .views.training_monitor import TrainingMonitor as TrainingMonitor
    from .views.unlearning_explorer import UnlearningExplorer as UnlearningExplorer

_MODULES = {  # what a type checker reads above, for when the program runs; a test holds the two together
    "activations": "ActivationBatch ActivationStream open_stream",
    "comparison": "compare",
    "complete_runs": "evaluate_again export_run",
    "config": "ConfigError RunConfig SAEConfig UserError",
    "evaluation.metrics": "evaluate",
    "evaluation.unlearning": "UnlearningResult UnlearningTask",
    "executors": "sweep",
    "experiments": "expand load_experiment",
    "interop": "export_sae import_sae",
    "language_model": "LanguageModel",
    "run_folders": "find_runs open_run",
    "runs": "execute launch",
    "sae": "SparseAutoencoder load_sae save_sae",
    "sources": "open_source",
    "stored_activations": "StoredActivations",
    "training": "read_metrics train",
    "views.explorer": "FeatureExplorer",
    "views.feature_index": "FeatureIndex",
    "views.figures": "draw figure1 figure2 figure4",
    "views.training_monitor": "TrainingMonitor",
    "views.unlearning_explorer": "UnlearningExplorer",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
