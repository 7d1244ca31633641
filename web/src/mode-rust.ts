import { rustLanguage } from '@codemirror/lang-rust'
import { completes } from './completion'

const keywords = `
  as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move
  mut pub ref return self Self static struct super trait true type union unsafe use where while bool char f32
  f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize String Vec Option Some None Result Ok Err Box Rc
  Arc RefCell HashMap HashSet BTreeMap VecDeque println print eprintln format vec panic assert assert_eq iter
  into_iter collect map filter unwrap expect clone push len derive Debug Clone Copy PartialEq main
`

export const mode = () => [rustLanguage, completes(rustLanguage, keywords)]
