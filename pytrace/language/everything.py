"""Every builtin, function, aggregation and value kind of the language, by their modules. Probe types: `every_probe`.

A new module of features is named here, and nowhere else. Importing this one makes them all register themselves.
"""

# ruff: noqa: F401

import pytrace.language.aggregations.histograms
import pytrace.language.aggregations.numbers
import pytrace.language.aggregations.timeseries
import pytrace.language.builtins.configuration
import pytrace.language.builtins.cpu
import pytrace.language.builtins.dwstack
import pytrace.language.builtins.family
import pytrace.language.builtins.probe
import pytrace.language.builtins.stacks
import pytrace.language.builtins.task
import pytrace.language.builtins.time
import pytrace.language.functions.capture
import pytrace.language.functions.control
import pytrace.language.functions.debug
import pytrace.language.functions.fail
import pytrace.language.functions.files
import pytrace.language.functions.kernelfunctions
import pytrace.language.functions.maps
import pytrace.language.functions.memory
import pytrace.language.functions.names
import pytrace.language.functions.network
import pytrace.language.functions.options
import pytrace.language.functions.output
import pytrace.language.functions.percpu
import pytrace.language.functions.process
import pytrace.language.functions.runtime_warning
import pytrace.language.functions.search
import pytrace.language.functions.shell
import pytrace.language.functions.sockets
import pytrace.language.functions.strings
import pytrace.language.functions.symbols
import pytrace.language.functions.types
import pytrace.language.functions.unwatch
import pytrace.language.values.accounts
import pytrace.language.values.addresses
import pytrace.language.values.floats
import pytrace.language.values.symbols
import pytrace.language.values.timestamp
