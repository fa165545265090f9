"""The OpenAI SDK for Node, major 6."""

from node_sdk import *  # noqa: F403

MAJOR = 6
