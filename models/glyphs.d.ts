/** The bytes, as a bundler gives them that takes the file for data (of edge workers: a rule of type 'Data'). */
declare const weights: ArrayBuffer;
// biome-ignore lint/style/noDefaultExport: as for any file imported as data
export default weights;
