// Package attack plays what a stranger can do who has an address in the cluster and no rights: it opens connections by the thousand,
// says nothing, begins requests and does not end them, sends bodies without end, to every port of both programs as they are shipped.
// Meanwhile ensemble members, Cluster Autoscaler, the API server and Prometheus go on asking, and are served; and the memory of the
// programs stays under bounds far below the limits of their containers.
package attack
