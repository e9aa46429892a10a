package main

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
)

// ungate is the command for the end of an installation: pods that wait for the controller would wait for ever.
func ungate() *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "ungate",
		Short: "Takes the scheduling gate of members away from all pods, for an uninstallation",
		Long: "Takes the scheduling gate " + v1alpha1.SchedulingGate + ` away from every pod of the cluster that has it, so that the
scheduler places it wherever it may run, and ends when no pod has it. Gates of others stay. It may be killed and repeated.

Stop the controller first, and delete the MutatingAdmissionPolicy that adds the gate, or the MutatingWebhookConfiguration in its
place: it gives it to new pods of members.
make undeploy does all of that, in order. It uses the rights of the user who runs it: to list and to patch pods.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := process.RESTConfig("kubeconfig", kubeconfig, name+"/"+version+" ungate")
			if err != nil {
				return err
			}
			// What there is to say is said in words.
			ctrl.SetLogger(logr.Discard())
			scheme := runtime.NewScheme()
			if err := corev1.AddToScheme(scheme); err != nil {
				return fmt.Errorf("register the kind Pod: %w", err)
			}
			transport, err := rest.HTTPClientFor(config)
			if err != nil {
				return fmt.Errorf("connect to the API server: %w", err)
			}
			defer transport.CloseIdleConnections()
			pods, err := client.New(config, client.Options{Scheme: scheme, HTTPClient: transport})
			if err != nil {
				return fmt.Errorf("connect to the API server: %w", err)
			}
			sweep := gates.Sweep{Client: pods, Clock: clock.RealClock{}, Out: cmd.OutOrStdout()}
			return sweep.Run(cmd.Context())
		},
	}
	process.AddKubeconfig(cmd.Flags(), &kubeconfig)
	return cmd
}
