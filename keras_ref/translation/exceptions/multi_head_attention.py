"""Keras exports grouped-query attention as GroupQueryAttention; the class itself has another name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from keras_ref.translation.exceptions import reflects
from scratch.layers.multi_head_attention import GroupQueryAttention


@reflects("GroupedQueryAttention")
def grouped_query_attention(keras_layer: Any) -> GroupQueryAttention:
    """The specification of a Keras layer, read from its configuration."""
    config = keras_layer.get_config()
    return GroupQueryAttention(**{field.name: config[field.name] for field in fields(GroupQueryAttention)})
