package v1alpha1

// GroupsOf are the groups of pods that a member wants: those of spec.groups, and of a member with one group that one, without a name.
func GroupsOf(m *EnsembleMember) []MemberGroup {
	if len(m.Spec.Groups) > 0 {
		return m.Spec.Groups
	}
	return []MemberGroup{{Size: m.Spec.Size, MinSize: m.Spec.MinSize, MaxSize: m.Spec.MaxSize, Unit: m.Spec.Unit}}
}

// GroupOf is the group of a name, nil for none. A member with one group has that one, whose name is empty.
func GroupOf(m *EnsembleMember, name string) *MemberGroup {
	groups := GroupsOf(m)
	for i := range groups {
		if groups[i].Name == name {
			return &groups[i]
		}
	}
	return nil
}

// RecordOf is what the status of a member says of a group: of a member with one group, whose name is empty, the status itself. What was
// never recorded is zero. Nobody may change what it shares with the status.
func RecordOf(m *EnsembleMember, group string) GroupStatus {
	s := &m.Status
	if group == "" {
		return GroupStatus{
			Size: s.Size, Running: s.Running, Reserved: s.Reserved, Nodes: s.Nodes, Reservations: s.Reservations, Growth: s.Growth,
			Avoided: s.Avoided, Findings: s.Findings, PodsLacking: s.PodsLacking,
		}
	}
	for i := range s.Groups {
		if s.Groups[i].Name == group {
			return s.Groups[i]
		}
	}
	return GroupStatus{Name: group}
}

// SetGroupSize sets the desired size of a group of a member, and with it that of the member, which is the sum.
func SetGroupSize(m *EnsembleMember, group string, size int32) {
	for i := range m.Spec.Groups {
		if m.Spec.Groups[i].Name == group {
			m.Spec.Groups[i].Size = size
		}
	}
	if len(m.Spec.Groups) == 0 {
		m.Spec.Size = size
		return
	}
	m.Spec.Size = 0
	for i := range m.Spec.Groups {
		m.Spec.Size += m.Spec.Groups[i].Size
	}
}
