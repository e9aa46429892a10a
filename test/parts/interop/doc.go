// Package interop tests that a member written in Python, with code generated from our .proto, is served by the
// ensemble endpoint as ensemble-python's clients are: the real controller answers member.py, which speaks from the
// address of a member's pod, and the MiniCluster follows. And it tests that the agent is, on a queue of its own.
//
// Python, its gRPC and protobuf modules and the code generator are Debian's; install-python.sh installs them. Without
// them the test is skipped, and where the variable CI is set it fails.
package interop
