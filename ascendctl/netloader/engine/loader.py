"""vLLM's model loader: `--load-format ascendctl` (and `netloader`, see `plugin`).

Without SOURCE the weights come from disk, and joiners are served. With SOURCE they are received into the
freshly built model as a load from disk would have left them, verified, and only then post-processed, as
vLLM does after any load; from then on this engine serves joiners too. Where no source can give them, the disk
is read after all or the engine stops, as FALLBACK says. Either way it is one decision of all ranks: an engine
never answers from a mixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import vllm
from torch import nn
from torch.distributed import ProcessGroup
from vllm.config import ModelConfig, VllmConfig, get_current_vllm_config_or_none, replace
from vllm.config.load import LoadConfig
from vllm.distributed import get_dp_group, get_ep_group, get_pp_group, get_tp_group, get_world_group
from vllm.model_executor.model_loader.base_loader import BaseModelLoader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.reload import finalize_layerwise_processing
from vllm.model_executor.model_loader.utils import process_weights_after_loading
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.utils.network_utils import get_ip
from vllm.utils.torch_utils import set_default_torch_dtype

from ascendctl.netloader.engine import weight_hooks
from ascendctl.netloader.engine.digest import prepare
from ascendctl.netloader.engine.fallback import Registrations, free_memory
from ascendctl.netloader.engine.identity import IdentityError
from ascendctl.netloader.engine.identity_of_vllm import Place, identity_of
from ascendctl.netloader.engine.kept import Kept, Mode
from ascendctl.netloader.engine.options import listen_port_of, read_options
from ascendctl.netloader.engine.origin import NO_SOURCE
from ascendctl.netloader.engine.phases import TAG, logger
from ascendctl.netloader.engine.python_flags import flag_tensors, set_flags
from ascendctl.netloader.engine.rank_engine import RankEngine, Seat
from ascendctl.netloader.engine.shop import LegacyTensors
from ascendctl.netloader.engine.weights import (
    WeightSet,
    WeightSetError,
    collect_legacy_raw,
    collect_processed,
    collect_raw,
)

# Keys of the extra configuration that are vLLM's own, for its loader from disk.
_DISK_KEYS = frozenset({"enable_multithread_load", "num_threads", "enable_weights_track"})


class NoWeights(RuntimeError):
    """The engine cannot start: no source gave the weights, and the disk was not to be read or has none."""


class NetloaderModelLoader(BaseModelLoader):
    """One instance for each model that is loaded. Raises OptionsError for a configuration it cannot use."""

    def __init__(self, load_config: LoadConfig) -> None:
        super().__init__(load_config)
        extra = load_config.model_loader_extra_config
        given = dict(extra) if isinstance(extra, dict) else extra
        disk = {key: given.pop(key) for key in _DISK_KEYS & set(given)} if isinstance(given, dict) else {}
        self._options = read_options(given)
        # It refuses keys that it does not know, so it is given its own only.
        self._disk = DefaultModelLoader(
            replace(load_config, load_format="auto", model_loader_extra_config=disk)
        )

    # What vLLM asks of any loader ---------------------------------------------------------------------

    def download_model(self, model_config: ModelConfig) -> None:
        self._disk.download_model(model_config)

    def load_weights(self, model: nn.Module, model_config: ModelConfig) -> None:
        self._disk.load_weights(model, model_config)

    def get_all_weights(
        self, model_config: ModelConfig, model: nn.Module
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """For `reload_weights`, which reads the disk."""
        yield from self._disk.get_all_weights(model_config, model)

    def load_model(self, vllm_config: VllmConfig, model_config: ModelConfig, prefix: str = "") -> nn.Module:
        """The model, ready to serve. Raises NoWeights, OptionsError, and what a load from disk raises."""
        draft = _is_draft(vllm_config, model_config)
        if vllm_config.speculative_config is not None:
            # Before anything is loaded: a port beyond 65535 would show only with the draft model.
            listen_port_of(self._options, torch.distributed.get_rank(), True)
        device = torch.device(self.load_config.device or vllm_config.device_config.device)
        engine = RankEngine(
            Seat(torch.distributed.get_rank(), draft, model_config.model, _own_address(), device),
            self._options,
            _together(vllm_config, draft),
        )
        _install_hooks(vllm_config)
        prepare(device)
        load = _Load(self, engine, vllm_config, model_config, prefix)
        try:
            with engine.phases.phase("load"), set_default_torch_dtype(model_config.dtype):
                model = load.run()
        except BaseException as error:
            engine.failed(f"{type(error).__name__}: {error}")
            raise
        load.serve()
        return model.eval()


class _Load:
    """One load of one model: what it does, in its order."""

    def __init__(
        self,
        loader: NetloaderModelLoader,
        engine: RankEngine,
        vllm_config: VllmConfig,
        model_config: ModelConfig,
        prefix: str,
    ) -> None:
        self._loader = loader
        self._engine = engine
        self._options = engine.options
        self._vllm_config = vllm_config
        self._model_config = model_config
        self._prefix = prefix
        self._model: nn.Module | None = None
        self._named: list[tuple[str, torch.Tensor]] = []
        self._kept: Kept | None = None
        self._legacy_names: list[str] = []
        self._refusal: str | None = None
        self._processed_early = False

    def run(self) -> nn.Module:
        registrations = Registrations.taken(self._vllm_config)
        self._refusal = _moved_unseen(self._vllm_config)
        reason = self._identified() or _elastic(self._vllm_config)
        joins = bool(self._options.sources)
        # Also without SOURCE: where the nodes of one engine are configured differently, the others must not
        # mix what they received with what is read from disk here.
        reason = self._engine.agreed((reason or self._received()) if joins else NO_SOURCE)
        if not joins:
            self._build()
            self._read_disk()
        elif reason is not None:
            self._fall_back(reason, registrations)
        model = self._processed()
        if reason is not None:
            self._engine.combine()
        return model

    def serve(self) -> None:
        """Opens the listener, or says why there is none."""
        model, device, raw = self._model, self._engine.seat.device, self._legacy_raw()
        assert model is not None
        legacy = LegacyTensors(
            raw=None if raw is None else lambda: raw,
            # vLLM on a CPU packs its matrices into something no peer could use, and leaves them empty.
            processed=None if device.type == "cpu" else lambda: _processed_tensors(model, device),
        )
        self._engine.serve(self._refusal, legacy)

    # Where the weights come from ----------------------------------------------------------------------

    def _identified(self) -> str | None:
        try:
            self._engine.identity = identity_of(
                self._vllm_config,
                self._model_config,
                _place(),
                draft=self._engine.seat.draft,
                vllm_version=vllm.__version__,
                torch_version=torch.__version__,
                device_kind=current_platform.device_type,
            )
        except IdentityError as error:
            self._refusal = f"the model's identity is not known: {error}"
            return self._refusal
        return None

    def _received(self) -> str | None:
        """Builds the model and fills it from a source; why that did not work, or None."""
        if not self._engine.sources():
            return f"SOURCE names no source for rank {self._engine.seat.rank}"
        self._build()
        assert self._model is not None
        if _quantizes_online(self._model):
            return "the weights are quantised while they are loaded (online quantisation), from disk only"
        flags = self._take_tensors()
        try:
            weights = WeightSet(self._named, self._options.chunk_bytes)
        except WeightSetError as error:
            return f"this model cannot be received: {error}"
        reason = self._engine.join(weights, self._legacy_targets())
        if reason is None and self._processed_early:
            if self._engine.received_manifest is not None:
                # An attempt at a peer of the processed layout went before: the model is past these tensors.
                return "the model was already post-processed for a source that then failed"
            self._refusal = "the weights came post-processed from a peer without the extension"
        if reason is None:
            set_flags(self._model, flags)
        return reason

    def _legacy_targets(self) -> LegacyTensors:
        """Where peers without the extension may write. Those of the processed layout want the model as it is
        after post-processing, so it is post-processed first, whatever its weights are now."""
        model, device = self._model, self._engine.seat.device
        assert model is not None

        def processed() -> list[tuple[str, torch.Tensor]]:
            if not self._processed_early:
                self._processed_early = True
                process_weights_after_loading(model, self._model_config, device)
            return _processed_tensors(model, device)

        return LegacyTensors(
            raw=lambda: collect_legacy_raw(model, "joiner"),
            processed=None if device.type == "cpu" else processed,
        )

    def _fall_back(self, reason: str, registrations: Registrations) -> None:
        self._engine.give_up()
        if self._options.fallback == "error":
            raise NoWeights(f"no weights from any source, and FALLBACK is error: {reason}")
        self._engine.fell_back(reason)
        # Nothing of the first model may stay, in memory or by name, while the second is built.
        self._model = None
        self._named = []
        self._processed_early = False
        registrations.put_back(self._vllm_config)
        free_memory()
        self._build()
        try:
            self._read_disk()
        except Exception as error:
            raise NoWeights(
                f"no weights from any source ({reason}), and none from disk: {type(error).__name__}: {error}"
            ) from error

    def _build(self) -> None:
        with self._engine.seat.device:
            self._model = self._loader.create_model(
                vllm_config=self._vllm_config, model_config=self._model_config, prefix=self._prefix
            )

    def _read_disk(self) -> None:
        assert self._model is not None
        self._loader.load_weights(self._model, self._model_config)
        if _quantizes_online(self._model):
            self._refusal = "the weights were quantised while they were loaded: no joiner could receive them"
        else:
            self._take_tensors()
        self._engine.read_disk()

    def _take_tensors(self) -> dict[str, torch.Tensor]:
        """Holds the tensors as they are before post-processing; returns those that stand for flags."""
        assert self._model is not None
        flags = flag_tensors(self._model)
        self._named = [*collect_raw(self._model), *flags.items()]
        return flags

    def _keep(self) -> None:
        """What joiners will be given, from before post-processing."""
        assert self._model is not None
        try:
            self._kept = Kept.before(
                self._named,
                cast(Mode, self._options.int8_cache),
                self._options.int8_cache_names,
                chunk_bytes=self._options.chunk_bytes,
                digested=self._engine.received_manifest,
            )
        except WeightSetError as error:
            self._refusal = f"these weights cannot be sent: {error}"
            return
        self._legacy_names = [name for name, _ in collect_legacy_raw(self._model, "source")]
        self._engine.keeps(self._kept)

    def _legacy_raw(self) -> list[tuple[str, torch.Tensor]] | None:
        """What peers of the raw layout get; None where part of it is not on the device."""
        if self._kept is None:
            return None
        kept = [(name, self._kept.tensors[name]) for name in self._legacy_names]
        device = self._engine.seat.device.type
        return kept if all(tensor.device.type == device for _, tensor in kept) else None

    # What vLLM makes of them --------------------------------------------------------------------------

    def _processed(self) -> nn.Module:
        model, engine = self._model, self._engine
        assert model is not None
        engine.quiet()
        free_memory()
        if self._named and self._refusal is None:
            with engine.phases.phase("digest"):
                self._keep()
        if not self._processed_early:
            with engine.phases.phase("post-process"):
                if _quantizes_online(model):
                    finalize_layerwise_processing(model, self._model_config)
                process_weights_after_loading(model, self._model_config, engine.seat.device)
        if self._kept is not None:
            with engine.phases.phase("digest"):
                self._kept.after()
            self._refusal = self._kept.unservable
        self._named = []
        free_memory()
        return model


def _is_draft(vllm_config: VllmConfig, model_config: ModelConfig) -> bool:
    speculative = vllm_config.speculative_config
    if speculative is None:
        return False
    return model_config is speculative.draft_model_config or model_config.runner_type == "draft"


def _moved_unseen(vllm_config: VllmConfig) -> str | None:
    """vllm-ascend's dynamic EPLB moves experts without a call that could be watched (its own P2P loader,
    RFork, does not serve then either). vLLM's EPLB is watched, see `weight_hooks`."""
    elastic = _elastic(vllm_config)
    if elastic is not None:
        return elastic
    additional = vllm_config.additional_config
    if not isinstance(additional, dict):
        return None
    nested = additional.get("eplb_config")
    for settings in (additional, nested if isinstance(nested, dict) else {}):
        if settings.get("dynamic_eplb"):
            return "dynamic expert re-balancing (dynamic_eplb) moves weights while joiners would receive them"
    return None


def _elastic(vllm_config: VllmConfig) -> str | None:
    if getattr(vllm_config.parallel_config, "enable_elastic_ep", False):
        return "elastic expert parallelism (enable_elastic_ep) moves weights between ranks that come and go"
    return None


def _own_address() -> str | None:
    """The engine's own; None where vLLM knows none (it then says 0.0.0.0, which would be every address)."""
    address = str(get_ip())
    return None if address in ("", "0.0.0.0", "::") else address


def _install_hooks(vllm_config: VllmConfig) -> None:
    """Raises RuntimeError where the worker's class is not known: its sleep mode would not be noticed."""
    # A draft model's own configuration leaves it open; the one in force is then its target's.
    for config in (vllm_config, get_current_vllm_config_or_none()):
        name = "auto" if config is None else config.parallel_config.worker_cls
        if name != "auto":
            missing = weight_hooks.install(resolve_obj_by_qualname(name))
            if missing:
                logger().info("%s this vLLM has no %s: nothing to watch there", TAG, ", ".join(missing))
            return
    raise RuntimeError("vLLM's configuration does not name its worker class")


def _place() -> Place:
    tp, pp, dp, ep = get_tp_group(), get_pp_group(), get_dp_group(), _ep_group()
    return Place(
        global_rank=torch.distributed.get_rank(),
        tp_size=tp.world_size,
        tp_rank=tp.rank_in_group,
        pp_size=pp.world_size,
        pp_rank=pp.rank_in_group,
        dp_size=dp.world_size,
        dp_rank=dp.rank_in_group,
        ep_size=1 if ep is None else ep.world_size,
        ep_rank=0 if ep is None else ep.rank_in_group,
    )


def _ep_group() -> Any:
    """None where there are no experts: vLLM then makes no such group."""
    try:
        return get_ep_group()
    except AssertionError:
        return None


def _together(vllm_config: VllmConfig, draft: bool) -> ProcessGroup | None:
    """The ranks that load this model: for a draft model those of the last pipeline stage."""
    if _elastic(vllm_config):
        return None  # its groups are none of torch.distributed; nothing is received or served there
    return (get_tp_group() if draft else get_world_group()).cpu_group


def _quantizes_online(model: nn.Module) -> bool:
    """vLLM marks the methods that quantise during the load; their parameters are on the meta device."""
    return any(
        getattr(getattr(module, "quant_method", None), "uses_meta_device", False)
        for module in model.modules()
    )


def _processed_tensors(model: nn.Module, device: torch.device) -> list[tuple[str, torch.Tensor]]:
    return collect_processed(model, lambda tensor: tensor.device.type == device.type)
