package sink

// Field is one field of the gate's API, as its document lists them.
type Field struct {
	Name     string
	Required bool
	Kind     string   // KindText, KindTime or KindEnum
	Enum     []string // the values of a KindEnum field
}

// Kinds of a [Field]. Times go out as UTC, yyyy-MM-dd'T'HH:mm:ss'Z' or with
// three digits of milliseconds.
const (
	KindText = "text"
	KindTime = "time"
	KindEnum = "enum"
)

// Names of the fields that the bridge itself reads or writes.
const (
	FieldAppID         = "app_id"
	FieldSign          = "sign"
	FieldParkUUID      = "park_uuid"
	FieldFlowNo        = "flow_no"
	FieldParkingSerial = "parking_serial"
	FieldPlate         = "plate"
	FieldOperateTime   = "operate_time"
)

// Contract lists the fields of the call "push an exception release"
// (POST …/gate/1.0/parking/internal/update) that a mapping may fill. app_id
// and sign are the client's own.
func Contract() []Field {
	return []Field{
		{Name: FieldParkUUID, Required: true, Kind: KindText},
		{Name: FieldFlowNo, Required: true, Kind: KindText},
		{Name: FieldParkingSerial, Required: true, Kind: KindText},
		{Name: FieldPlate, Required: true, Kind: KindText},
		{Name: "plate_color", Kind: KindEnum, Enum: []string{"1", "2", "3", "4", "5", "-1"}},
		{Name: "car_type", Kind: KindEnum, Enum: []string{"1", "2", "3", "4", "0"}},
		{Name: "car_desc", Kind: KindText},
		{Name: "enter_time", Kind: KindTime},
		{Name: "leave_time", Kind: KindTime},
		{Name: FieldOperateTime, Required: true, Kind: KindTime},
		{Name: "operator", Required: true, Kind: KindText},
		{Name: "reason", Required: true, Kind: KindText},
	}
}
