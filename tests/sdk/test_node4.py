"""The OpenAI SDK for Node, major 4."""

from node_sdk import *  # noqa: F403

MAJOR = 4
