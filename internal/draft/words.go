package draft

import (
	"strings"
	"sync"
	"unicode"
)

// entry gives words that name one thing and how much each of them says, 0 to 1.
type entry struct {
	thing  string
	weight float64
	words  string
}

// fieldWords are the names that parking systems give their columns: English,
// pinyin (in full and by initials) and Chinese.
var fieldWords = compileWords([]entry{
	{"plate", 1, `plate plate_no plate_num plate_number license_plate licence_plate car_plate car_no car_num car_number car_code
		vehicle_no vehicle_plate license_no lpn vlp cph cphm chp hphm chepai chepaihao chepaihaoma 车牌 车牌号 车牌号码 号牌 号牌号码`},
	{"plate", .6, `license vehicle cp car 车号`},
	{"plate_color", 1, `color colour plate_color plate_colour license_color ys cpys hpys ysmc cpysmc yanse chepaiyanse 车牌颜色 号牌颜色 颜色`},
	{"plate_color", .3, `car_color vehicle_color csys 车身颜色 车辆颜色`},
	{"car_type", 1, `car_type card_type card_kind car_kind vehicle_type car_class card_class car_type_name card_type_name
		clx cllx klx tclx chelei chexing cheliangleixing kalei kaleixing 车型 车类 车类型 车辆类型 卡类型 卡类 卡种 停车类型`},
	{"car_type", .6, `user_type charge_type park_type fee_type cx kl 用户类型 收费类型 类型`},
	{"enter_time", 1, `in_time enter_time entry_time entrance_time in_date enter_date in_datetime come_time rcsj jcsj rksj jrsj rcrq jcrq
		jinchang ruchang jinchangshijian ruchangshijian 入场时间 进场时间 入口时间 入场日期 进场日期 入场 进场 驶入时间`},
	{"enter_time", .6, `begin_time start_time arrive_time kssj 开始时间 到达时间`},
	{"leave_time", 1, `out_time exit_time leave_time out_date exit_date leave_date out_datetime depart_time ccsj lcsj cksj ccrq
		chuchang lichang chuchangshijian lichangshijian 出场时间 离场时间 出口时间 出场日期 离场日期 出场 离场 驶出时间`},
	{"leave_time", .5, `end_time jssj 结束时间`},
	{"operate_time", 1, `op_time oper_time operate_time operation_time op_date oper_date operate_date op_datetime handle_time deal_time
		release_time open_time open_gate_time pass_time event_time happen_time rgsj czsj czrq kzsj fxsj fxrq tgsj clsj
		caozuoshijian kaizhashijian fangxingshijian 操作时间 操作日期 放行时间 放行日期 开闸时间 抬杆时间 处理时间 发生时间 通过时间 人工时间`},
	{"operate_time", .6, `record_time create_time created_at add_time insert_time log_time jlsj cjsj lrsj 记录时间 创建时间 录入时间 添加时间`},
	{"operate_time", .4, `time datetime date day clock sj rq shijian riqi 时间 日期`},
	{"operator", 1, `operator operator_name op_name oper_name op_user oper_user operate_user operate_man opener handler handle_user guard
		guard_name staff worker tollman toll_collector charger cashier czy czyxm czr czrxm sfy sfyxm zby caozuoyuan caozuoren
		shoufeiyuan zhibanyuan 操作员 操作人 操作员姓名 收费员 收费员姓名 值班员 保安 经办人 处理人 放行人`},
	{"operator", .6, `oper op user user_name worker_name employee emp_name duty_man user_id operator_id op_id 用户 用户名 姓名`},
	{"reason", 1, `reason reason_name release_reason open_reason cause yy yuanyin fxyy kzyy ycyy fangxingyuanyin kaizhayuanyin
		原因 放行原因 开闸原因 异常原因 抬杆原因 事由`},
	{"reason", .7, `remark remarks memo bz beizhu 备注`},
	{"reason", .5, `note notes description desc comment why sm ms shuoming miaoshu 说明 描述 内容`},
	{"parking_serial", 1, `parking_serial park_serial entry_id enter_id in_id in_record_id in_rec_id entry_record_id in_serial parking_id
		parking_record_id park_record_id rcid rcjlid jcid jcjlid tclsh tcjlid rclsh rcjlh jcjlh rcjlbh rcbh tcjlh 停车流水 停车流水号 入场记录 入场记录号 进场记录 入场流水
		停车记录 停车记录号 入场编号`},
	{"parking_serial", .7, `parking_no order_no order_id record_id rec_id ticket_no ticket_id session_id jlid jlbh ddh 记录编号 记录号 订单号 票号`},
	{"parking_serial", .4, `card_no card_id kh kahao serial serial_no lsh liushui liushuihao 卡号 流水号 流水`},
})

// flowWords name a column that numbers the rows of a table.
var flowWords = compileWords([]entry{{"flow_no", 1, `id flow_no flow_id serial serial_no serial_number lsh liushui liushuihao xh bh rec_id
	record_id bill_no djh no auto_id guid uuid 流水号 序号 编号 单号 主键`}})

// kindWords name a column that tells ordinary passages from exceptional ones.
var kindWords = compileWords([]entry{{"kind", 1, `open_type open_kind open_mode open_gate_type open_way release_type pass_type pass_kind out_type
	event_type is_abnormal abnormal_flag is_manual manual_flag kzfs kzlx fxfs fxlx cclx yclx sfyc 开闸方式 开闸类型 放行方式 放行类型
	出场类型 出场方式 异常类型 是否异常 抬杆方式 事件类型`}})

// tableWords say what a table holds.
var tableWords = compileWords([]entry{
	{"exception", 1, `abnormal abnormity exception exceptional unusual yichang ycfx yckz manual manually shoudong rengong sdkz rgkz hand_open
		open_gate opengate gate_open kaizha kzjl taigan fangxing fxjl release free_pass force_open emergency
		异常 手动 人工 开闸 抬杆 放行 起杆 强制开闸`},
	{"exception", .6, `yc kz fx hand free lift event alarm 免费 特殊 事件`},
	{"exit", 1, `out exit leave pass passage record chuchang lichang ccjl guoche 出场 离场 出口 过车 通行 出入`},
	{"other", 1, `bak backup copy old tmp test demo config setting dict menu role permission user account login charge_rule
		month_card white_list black_list in_park zaichang
		备份 配置 字典 用户 角色 权限 白名单 黑名单 月卡 在场 收费标准`},
})

// pictureWords name a column that holds pictures, whatever its type.
var pictureWords = compileWords([]entry{{"picture", 1, `pic picture photo img image jpg jpeg snapshot snap capture video thumb blob tupian tp zhaopian zp
	zhuapai 图片 照片 图像 抓拍 截图 视频`}})

// word is one of an entry's.
type word struct {
	thing  string
	weight float64
	text   string // without separators
	han    bool
}

// vocabulary gives words, compiled when they are first needed.
type vocabulary = func() []word

func compileWords(entries []entry) vocabulary {
	return sync.OnceValue(func() []word { return compiled(entries) })
}

func compiled(entries []entry) []word {
	var out []word
	for _, e := range entries {
		for w := range strings.FieldsSeq(e.words) {
			text := strings.ReplaceAll(w, "_", "")
			out = append(out, word{e.thing, e.weight, text, isHan([]rune(text)[0])})
		}
	}
	return out
}

func isHan(r rune) bool { return unicode.Is(unicode.Han, r) }

// label is a name taken apart: PlateNo, plate_no and 车牌号 alike.
type label struct {
	tokens []string // in lower case; a run of Chinese is one
	joined string
}

func newLabel(name string) label {
	var tokens []string
	var token []rune
	var last rune
	flush := func() {
		if len(token) > 0 {
			tokens = append(tokens, strings.ToLower(string(token)))
			token = nil
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
			last = 0
			continue
		case len(token) == 0:
		case unicode.IsDigit(r) != unicode.IsDigit(last), isHan(r) != isHan(last),
			unicode.IsUpper(r) && unicode.IsLower(last),
			unicode.IsUpper(r) && unicode.IsUpper(last) && i+1 < len(runes) && unicode.IsLower(runes[i+1]) && len(token) > 1: // OPTime
			flush()
		}
		token, last = append(token, r), r
	}
	flush()
	return label{tokens, strings.Join(tokens, "")}
}

// commentLabel takes the part of a comment that names the thing: 车牌号(含省份)
// is 车牌号.
func commentLabel(comment string) label {
	head := strings.TrimSpace(comment)
	if i := strings.IndexAny(head, ",;:.(/|[，；：。、（【"); i > 0 {
		head = head[:i]
	}
	return newLabel(head)
}

// says is how strongly a label names a thing, 0 to 1, and by which word.
func (l label) says(words vocabulary, thing string) (best float64, by string) {
	for _, w := range words() {
		if w.thing != thing {
			continue
		}
		if s := l.like(w) * w.weight; s > best {
			best, by = s, w.text
		}
	}
	return best, by
}

// Tokens that leave a name what it is: plate_no, f_plate, plate_str.
var neutral = map[string]bool{
	"no": true, "num": true, "number": true, "code": true, "id": true, "name": true, "text": true, "str": true, "value": true, "info": true,
	"号": true, "号码": true, "名称": true, "姓名": true, "f": true, "c": true, "s": true, "n": true, "d": true, "v": true, "t": true, "dt": true,
	"fld": true, "col": true, "field": true, "tb": true, "tbl": true,
}

func (l label) like(w word) float64 {
	if l.joined == "" {
		return 0
	}
	if l.joined == w.text {
		return 1
	}
	share := float64(len(w.text)) / float64(len(l.joined))
	if w.han {
		at := strings.LastIndex(l.joined, w.text)
		if at < 0 {
			return 0
		}
		return headed(.5+.45*share, strings.TrimRight(l.joined[at+len(w.text):], "0123456789"))
	}
	if s := l.run(w.text); s > 0 {
		return s
	}
	if len(w.text) >= 5 && strings.Contains(l.joined, w.text) {
		return .3 + .5*share
	}
	return 0
}

// run looks for tokens that stand together and make the word.
func (l label) run(text string) float64 {
	best := 0.0
	for i := range l.tokens {
		joined, rest := "", len(l.joined)
		for j := i; j < len(l.tokens) && len(joined) < len(text); j++ {
			joined += l.tokens[j]
			if joined != text {
				continue
			}
			for k, t := range l.tokens {
				if (k < i || k > j) && (neutral[t] || unicode.IsDigit(rune(t[0]))) {
					rest -= len(t)
				}
			}
			s := .5 + .45*float64(len(text))/float64(rest)
			if j+1 < len(l.tokens) {
				s = headed(s, strings.TrimRight(l.tokens[j+1], "0123456789"))
			}
			best = max(best, s)
		}
	}
	return best
}

// headed lowers the score of a word that another one follows: the plate of
// plate_color is no plate.
func headed(s float64, follows string) float64 {
	if follows == "" || neutral[follows] {
		return s
	}
	return s * .6
}
