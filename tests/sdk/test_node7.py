"""The OpenAI SDK for Node, major 7."""

from node_sdk import *  # noqa: F403

MAJOR = 7
