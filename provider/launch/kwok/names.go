package kwok

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// scheme begins the provider ids of simulated machines.
const scheme = "kwok://"

// ProviderID is spec.providerID of the node of an instance.
func ProviderID(pool, instance string) string { return scheme + pool + "/" + instance }

// InstanceName is the name of the instance of a machine: that of the machine, or one of its own where nodes have names of their
// own, too. It is the same whenever it is asked for, so that the same machine is never made twice.
func InstanceName(pool *launch.Pool, machine string) string {
	if config := pool.Machines.Kwok; config != nil && config.NodeNames == v1alpha1.KwokNodeNamesOwn {
		return ownName(pool, "machine", machine)
	}
	return machine
}

// orphanName is the name of the instance that the cloud makes beside that of a machine and tells nobody of.
func orphanName(pool *launch.Pool, machine string) string { return ownName(pool, "orphan", machine) }

func ownName(pool *launch.Pool, kind, machine string) string {
	seed := int64(0)
	if config := pool.Machines.Kwok; config != nil {
		seed = config.Seed
	}
	return "i-" + digest(17, pool.Cluster, pool.Name, strconv.FormatInt(seed, 10), kind, machine)
}

// NodeName is the name of the node of an instance that is not named after its machine. It follows from the name of the instance
// alone, so that the node of an instance that is gone is found.
func NodeName(instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return fmt.Sprintf("ip-10-%d-%d-%d.%s.internal", sum[0], sum[1], sum[2], digest(8, instance))
}

// digest is so many hexadecimal digits that stand for the parts.
func digest(digits int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])[:digits]
}
