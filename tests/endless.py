"""A program whose compilation goes on until somebody ends it."""

from typing import Any

COMPILES_LONG: dict[str, Any] = {
    "language": "cpp",
    "source": "constexpr long spin() { long n = 0; while (n >= 0) n ^= 1; return n; }\n"
    "constexpr long never = spin();\nint main() {}\n",
    "compile_args": [
        "-fconstexpr-ops-limit=9223372036854775807",
        "-fconstexpr-loop-limit=2147483647",
    ],
}
