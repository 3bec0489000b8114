"""What is changed in other libraries while an adapter is trained; CONTRIBUTING lists all patches.

In this room because it decides what is saved, so that it is part of an adapter's identity.
"""

from __future__ import annotations

from peft.tuners import tuners_utils


def name_layers_plainly() -> None:
    """Have peft find the LoRA layers of a sharded model under the names of the whole one.

    Trap: peft takes off the first of the prefixes that FSDP adds, finds no layer, and saves an empty adapter.
    """
    find = tuners_utils._get_tuner_state_dict_key_prefixes

    def named(model, adapter_name=None):
        return {name.replace("_fsdp_wrapped_module.", "") for name in find(model, adapter_name)}

    tuners_utils._get_tuner_state_dict_key_prefixes = named
