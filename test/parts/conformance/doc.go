// Package conformance checks any server of Cluster Autoscaler's external gRPC cloud provider against the rules that
// Cluster Autoscaler counts on: what a call answers and with which code, what it changes, what the very next call
// sees of that, which methods are optional, and both forms of the messages. The rules are those of a server; nothing
// here knows how one is built. Only the wire is used, so the server may be written in any language.
//
// Each rule is a Case with a name. Run runs all of them against a Target as subtests. A case that changes a group
// brings it back to no machines, so cases can be run alone and in any order, but not at the same time.
//
// # A server that runs already
//
// TestAny runs the cases against the server at an address:
//
//		CLOUD_PROVIDER_ADDRESS=127.0.0.1:8086 CLOUD_PROVIDER_GROUP=blue \
//		CLOUD_PROVIDER_CERT=client.crt CLOUD_PROVIDER_KEY=client.key CLOUD_PROVIDER_CA=ca.crt \
//		go test -run TestAny -v ./test/parts/conformance/
//
//	  - CLOUD_PROVIDER_ADDRESS is host:port of the server. Where it is not set the test is skipped; where it is set,
//	    no control plane is started and our own server is not tested.
//	  - CLOUD_PROVIDER_CERT, CLOUD_PROVIDER_KEY and CLOUD_PROVIDER_CA are PEM files: the client's certificate, its key
//	    and the authority of the server's certificate. The name that is checked is the host of the address. As in
//	    Cluster Autoscaler, without a certificate there is no TLS.
//	  - CLOUD_PROVIDER_GROUP is the id of a node group with minSize 0, target size 0 and maxSize 4 or more. Its machines
//	    are ordered and deleted for good, so it must not be one that anybody uses, and Cluster Autoscaler must not run.
//	  - CLOUD_PROVIDER_SECOND_GROUP is optional: another such group. Cases about two groups are skipped without it. Its
//	    machines should take longer to run than a case takes; only then can orders be seen to be cancelled for certain.
//	  - CLOUD_PROVIDER_PATIENCE is how long a machine may take to run or to go, for example 10m; 1m where it is not set.
//
// # What the wire does not show
//
// Failures of the cloud cannot be caused from here, so two rules are not checked: that Refresh fails whenever
// NodeGroups would, and that a machine that failed is listed with an errorCode.
package conformance
