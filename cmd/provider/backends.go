package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/clusterapi"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/karpenter"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/kwok"
)

// BackendsConfig says where machines may come from. Each backend has rights of its own, in a component of the manifests that sets its
// flag too.
type BackendsConfig struct {
	// Kwok is set where machines may be simulated.
	Kwok bool
	// Karpenter is set where Karpenter makes machines.
	Karpenter bool
	// ClusterAPI are the namespaces of Machines of Cluster API, none for no such machines.
	ClusterAPI []string
	// MachinesKubeconfig is the path of a kubeconfig of the cluster that those Machines are in, empty where they are beside their nodes.
	MachinesKubeconfig string
}

func (c *BackendsConfig) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&c.Kwok, "kwok", false,
		"simulate machines where spec.machines.kwok of a NodePool is set; needs the rights of manifests/components/kwok")
	flags.BoolVar(&c.Karpenter, "karpenter", false,
		"make machines by Karpenter where spec.machines.karpenter of a NodePool is set; needs the rights of manifests/components/karpenter")
	flags.StringSliceVar(&c.ClusterAPI, "cluster-api", nil,
		"make machines by Cluster API, with Machines in these namespaces; without it nothing of Cluster API is watched")
	flags.StringVar(&c.MachinesKubeconfig, "machines-kubeconfig", "",
		"path of a kubeconfig of the cluster that has the Machines of Cluster API; without it they are in the cluster of their nodes")
}

func (c *BackendsConfig) validate() error {
	if c.MachinesKubeconfig != "" && len(c.ClusterAPI) == 0 {
		return errors.New("--machines-kubeconfig says where Machines of Cluster API are, and --cluster-api names no namespace of them")
	}
	return nil
}

// extend adds to the options of a manager what backends need: their kinds, and which objects of these are kept in memory.
func (c *BackendsConfig) extend(options *manager.Options) error {
	options.Scheme = runtime.NewScheme()
	if !c.Karpenter {
		return nil
	}
	if err := karpenter.AddToScheme(options.Scheme); err != nil {
		return fmt.Errorf("register the kinds of Karpenter: %w", err)
	}
	if options.Cache.ByObject == nil {
		options.Cache.ByObject = map[client.Object]cache.ByObject{}
	}
	kind, kept, err := karpenter.Cached()
	if err != nil {
		return err
	}
	options.Cache.ByObject[kind] = kept
	return nil
}

// missing is an error that says what to install where an error comes from a cluster that lacks the kinds of a backend, and that error
// itself else.
func (c *BackendsConfig) missing(err error) error {
	if c.Karpenter {
		return karpenter.Missing(err)
	}
	return err
}

// launchers are those that this process has. cluster is what instances are marked with.
func launchers(ctx context.Context, mgr manager.Manager, config *BackendsConfig, cluster string) (*launch.Launchers, error) {
	out := &launch.Launchers{}
	var err error
	if config.Kwok {
		if out.Kwok, err = simulated(ctx, mgr); err != nil {
			return nil, err
		}
	}
	if config.Karpenter {
		if out.Karpenter, err = karpenter.New(ctx, mgr); err != nil {
			return nil, err
		}
		orphans := &karpenter.Orphans{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Cluster: cluster}
		if err := orphans.SetupWithManager(mgr); err != nil {
			return nil, fmt.Errorf("set up the deletion of nodes without NodeClaims: %w", err)
		}
	}
	if len(config.ClusterAPI) > 0 {
		// Never a nil pointer in an interface that is not nil.
		if out.ClusterAPI, err = clusterAPI(mgr, config); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// simulated is the launcher of simulated machines. The cloud that it asks runs in this process too.
func simulated(ctx context.Context, mgr manager.Manager) (launch.Launcher, error) {
	launcher, err := kwok.New(ctx, mgr)
	if err != nil {
		return nil, err
	}
	boot := &kwok.Boot{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder(name), Clock: clock.RealClock{}}
	if err := boot.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("set up the boot of simulated machines: %w", err)
	}
	return launcher, nil
}

func clusterAPI(mgr manager.Manager, config *BackendsConfig) (launch.Launcher, error) {
	where := rest.CopyConfig(mgr.GetConfig())
	if config.MachinesKubeconfig != "" {
		var err error
		if where, err = process.RESTConfig("machines-kubeconfig", config.MachinesKubeconfig, name+"/"+version); err != nil {
			return nil, err
		}
	}
	reached := clusterapi.Reach(where, config.ClusterAPI, mgr.GetLogger().WithName("cluster-api"))
	if err := mgr.Add(reached); err != nil {
		return nil, fmt.Errorf("add the cluster that has the Machines: %w", err)
	}
	return reached, nil
}
