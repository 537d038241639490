# SPDX-License-Identifier: Apache-2.0
"""What this node's paths to other nodes and pods carry, found out with packets; nothing is changed."""
