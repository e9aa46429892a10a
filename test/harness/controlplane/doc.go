// Package controlplane runs a real Kubernetes control plane on the loopback interface, for tests and for the
// demo: etcd, kube-apiserver with RBAC, kube-scheduler, kube-controller-manager, and kwok in the place of
// kubelets and machines. It needs no container engine: the programs are built once from their Go modules
// (see [Build]) and kept in the user's cache directory.
//
//	plane, err := controlplane.Start(ctx, controlplane.Options{Parts: controlplane.All, Progress: os.Stderr})
//	if err != nil {
//		return err
//	}
//	defer plane.Stop()
//	client, err := client.New(plane.AdminConfig(), client.Options{})
//
// Pods get addresses of the loopback network 127.0.0.0/8, one of their own each. Linux answers on all of
// it, so a test can connect to a server from the very address of a pod:
//
//	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(pod.Status.PodIP)}}
//
// A pod runs until it is deleted. One that carries the annotation [RunSecondsAnnotation] ends by itself.
//
// Every process belongs to a guard (see the command in the directory guard), which ends them all and removes
// their directory when the program that started them is gone, however it went.
package controlplane
