package nodegroup

// abandoned are the machines of orders that have launched nothing and will not: records are missing, because the provider was killed
// before it had made all of them, or because one was deleted since; and the cloud was asked for none of them. They count until they
// are gone, so that nothing is ordered twice. vanishing is set while there are such, or other records that are being deleted and have
// asked for nothing: what is ordered meanwhile would be a part of what is ordered in a moment, and what was to be had all or
// not at all would be had in part.
func (g *Group) abandoned() (abandoned []string, vanishing bool) {
	type order struct {
		id    string
		first int64
	}
	records, launched := map[order]int32{}, map[order]bool{}
	for i := range g.Machines {
		m := &g.Machines[i]
		of := order{m.Order.ID, m.Order.First}
		records[of]++
		launched[of] = launched[of] || m.Asked || m.arrived()
	}
	for _, m := range g.live() {
		of := order{m.Order.ID, m.Order.First}
		switch {
		case !m.Going.IsZero():
			vanishing = true
		case records[of] < m.Order.Size && !launched[of]:
			abandoned, vanishing = append(abandoned, m.Name), true
		}
	}
	return abandoned, vanishing
}
