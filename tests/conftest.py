# SPDX-License-Identifier: Apache-2.0
"""A shell's background job ignores SIGINT, nohup SIGHUP, and so do their children: tests of signals need the usual."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
