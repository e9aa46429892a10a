package plan

import "fmt"

// unit is how many pods of the group grow together.
func (m *Member) unit() int32 { return max(1, m.Unit) }

// beyondUnit is by how many pods a size exceeds the next smaller one that is a whole number of units away from the present one.
func (m *Member) beyondUnit(size int32) int32 {
	unit := m.unit()
	if unit == 1 {
		return 0
	}
	return ((size-m.Size)%unit + unit) % unit
}

// unitsIn is the largest size of whole units that is not larger than one.
func (m *Member) unitsIn(size int32) int32 { return max(0, size-m.beyondUnit(size)) }

// unitsFor is the smallest size of whole units that is not smaller than one.
func (m *Member) unitsFor(size int32) int32 {
	if beyond := m.beyondUnit(size); beyond > 0 {
		return size - beyond + m.unit()
	}
	return size
}

// wrongUnit says that the desired size is not a whole number of units away from the present one, empty when it is.
func (m *Member) wrongUnit() string {
	if m.beyondUnit(m.Wants) == 0 {
		return ""
	}
	of := ""
	if m.Group != "" {
		of = fmt.Sprintf(" of group %s", m.Group)
	}
	return fmt.Sprintf(
		"the desired size %d%s has to differ from its size, which is %d, by a multiple of %d pods, which grow together: %d or %d would do",
		m.Wants, of, m.Size, m.unit(), m.unitsIn(m.Wants), m.unitsFor(m.Wants),
	)
}
